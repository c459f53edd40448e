"""Sentences under a table that say what its records say of themselves."""

from __future__ import annotations

from types import ModuleType

from reports.notes import provenance, record_notes


def test_notes_name_the_judge_and_how_far_to_trust_it(factory: ModuleType) -> None:
    facts = {
        "judge": {"rubric": "medical-v1"},
        "models": {"judge-2026-01": 8, "judge-2026-02": 2},
        "exact_match": {"n": 10, "agreement": 0.8, "kappa": 0.52},
        "alpha": 0.714,
    }
    silent = facts | {"exact_match": {"n": 10, "agreement": 1.0, "kappa": None}, "alpha": None}
    base, mixer = (
        factory.make_record(method, "medqa-judged", n=10).model_copy(update={"extra": {"judge": extra}})
        for method, extra in (("base", facts), ("mixer", silent))
    )
    made = [sentence for sentence in provenance([base, mixer]) if sentence.startswith("medqa-judged: ")]
    assert made == [
        "medqa-judged: judged by judge-2026-01, judge-2026-02 with the rubric medical-v1.",
        "medqa-judged: judge and exact match say the same of base (seed 0) 80 % of 10 (kappa 0.52), "
        "mixer (seed 0) 100 % of 10.",
        "medqa-judged: Krippendorff's alpha of the judge's repeated verdicts: base (seed 0) 0.71.",
    ]
    unjudged = factory.make_record("base", "math-medical").model_copy(
        update={"extra": {"judge": facts | {"exact_match": None, "alpha": None, "models": {}}}}
    )
    assert provenance([unjudged])[-1] == "math-medical: judged by nobody with the rubric medical-v1."


def test_notes_of_records_name_what_they_hold_for(factory: ModuleType) -> None:
    records, _ = factory.make_grid(methods=("base", "mole", "xlora"), tasks=("sst2", "mrpc"), seeds=(0,), n=4)
    said = {
        ("base", "sst2"): ["All.", "One task."],
        ("mole", "sst2"): ["All.", "One task.", "One cell."],
        ("xlora", "sst2"): ["All.", "One task.", "One method."],
        ("base", "mrpc"): ["All."],
        ("mole", "mrpc"): ["All."],
        ("xlora", "mrpc"): ["All.", "One method."],
    }
    records = [r.model_copy(update={"notes": said[r.spec.method, r.spec.task]}) for r in records]
    assert record_notes(records) == ["All.", "sst2: One task.", "mole on sst2: One cell.", "xlora: One method."]
