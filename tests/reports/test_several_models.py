"""A run of several base models, or of several settings: each is judged by itself, whatever the order of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import pytest

from reports.catalogue import build, companion, entry
from reports.claims import claims, table
from reports.evidence import Claim
from reports.tables import Panel, Table
from results.schema import Item, Record

Found = tuple[list[Record], dict[str, list[Item]]]


def grid(
    factory: ModuleType, rates: dict[str, float], tasks: Sequence[str] = ("sst2", "arc-e"), **fields: object
) -> Found:
    """Three seeds of every method, right on its first items."""
    records, items = [], {}
    for method, rate in rates.items():
        for task in tasks:
            for seed in (0, 1, 2):
                right = round(100 * rate) + seed - 1
                routing, log = factory.make_routing(task, seed), factory.make_log(20)
                record = factory.make_record(method, task, seed, n=100, routing=routing, training_log=log, **fields)
                records.append(record)
                items[record.cell] = factory.make_items([1.0] * right + [0.0] * (100 - right), task)
    return records, items


def joined(*found: Found) -> Found:
    return [record for records, _ in found for record in records], {
        k: v for _, items in found for k, v in items.items()
    }


def two_models(factory: ModuleType) -> tuple[Found, Found]:
    """On A the paper's method is far ahead of the others, on B far behind them."""
    ahead = grid(factory, {"mixer": 0.9, "lora": 0.3, "mixer-aux": 0.2}, model="A")
    return ahead, grid(factory, {"mixer": 0.2, "lora": 0.8, "mixer-aux": 0.9}, model="B")


def by_title(made: Table) -> dict[str, Panel]:
    return {panel.title: panel for panel in made.panels}


def judged(records: Sequence[Record], items: dict[str, list[Item]], name: str) -> Claim:
    return next(claim for claim in claims(records, items) if claim.name == name)


def test_claims_are_judged_on_each_base_model_in_any_order(factory: ModuleType) -> None:
    a, b = two_models(factory)
    there, back = table(*joined(a, b)), table(*joined(b, a))
    assert list(by_title(there)) == ["A", "B"]
    assert by_title(there) == by_title(back)
    verdicts = [panel.rows[2].cell("verdict").text for panel in there.panels]
    assert there.panels[0].rows[2].key == "t2/mixer/lora"
    assert verdicts == ["supported", "contradicted"]
    for panel, own in zip(there.panels, (a, b), strict=True):
        assert panel.rows == table(*own).panels[0].rows, "as if the other were not there"
    assert any("each base model by itself" in note for note in there.notes)
    assert not any("each base model" in note for note in table(*a).notes)


def test_evidence_of_two_base_models_is_refused(factory: ModuleType) -> None:
    with pytest.raises(ValueError, match="one base model"):
        claims(*joined(*two_models(factory)))


def test_a_row_of_several_settings_is_in_no_claim_and_the_table_says_so(factory: ModuleType) -> None:
    once = grid(factory, {"mixer": 0.9}, training={"lr": 0.1})
    again = grid(factory, {"mixer": 0.1}, training={"lr": 0.2})
    others = grid(factory, {"lora": 0.5})
    for order in ((once, again, others), (again, once, others)):
        records, items = joined(*order)
        for name in ("t2/mixer/lora", "load", "balance"):
            assert judged(records, items, name).verdict == "not measured", name
        (note,) = [note for note in table(records, items).notes if note.startswith("In no claim")]
        assert {"mixer (lr=0.1)", "mixer (lr=0.2)"} == set(note.removesuffix(".").split(": ")[1].split(", "))
    records, items = joined(once, others)
    assert {judged(records, items, name).verdict for name in ("t2/mixer/lora", "load", "balance")} > {"supported"}
    assert not any(note.startswith("In no claim") for note in table(records, items).notes)


def over_examples(factory: ModuleType, model: str, gain: float, **settings: object) -> Found:
    return joined(*(
        grid(factory, {"mixer": 0.4 + step / 10 + gain, "mixer-aux": 0.4}, model=model,
             training={"examples": examples, **settings})
        for step, examples in enumerate((32, 64))
    ))  # fmt: skip


def test_curves_over_a_setting_are_those_of_each_base_model(factory: ModuleType) -> None:
    a, b = over_examples(factory, "A", 0.3), over_examples(factory, "B", -0.2)
    there, back = (build(entry("t9"), *joined(*order)) for order in ((a, b), (b, a)))
    titles = ["Measured. A", "Measured. B"]
    assert [panel.title for panel in there.panels][:2] == titles
    assert [by_title(there)[title].rows for title in titles] == [by_title(back)[title].rows for title in titles]
    assert [there.cell("mixer", "32", f"{model}/measured").value for model in "AB"] == pytest.approx([70, 20])
    assert {f"{model}. Mean over sst2, arc-e." for model in "AB"} <= set(there.notes)
    curves, *differences = companion(entry("t9"), there, *joined(a, b)).axes
    assert {series.name for series in curves.series if series.y[0] is not None} == {
        f"{method} on {model}" for method in ("mixer", "mixer-aux") for model in "AB"
    }
    assert [axes.title for axes in differences] == ["difference on A", "difference on B"]
    assert [axes.series[0].y[0] for axes in differences] == pytest.approx([30, -20])
    made = table(*joined(a, b))
    found = [next(row for row in panel.rows if row.key == "data").cell("measured").text for panel in made.panels]
    assert [text.startswith(sign) for text, sign in zip(found, ("area +", "area −"), strict=True)] == [True, True]


def test_a_second_setting_at_one_value_is_a_row_of_its_own(factory: ModuleType) -> None:
    found = joined(over_examples(factory, "A", 0.3, lr=0.1), over_examples(factory, "A", -0.2, lr=0.2))
    made = build(entry("t9"), *found)
    shown = {row.key: row.cell("32").value for row in made.panels[0].rows if row.key.startswith("mixer (")}
    assert shown == pytest.approx({"mixer (lr=0.1)": 70, "mixer (lr=0.2)": 20})
    assert judged(*found, "data").verdict == "not measured"


def test_parameters_moved_from_two_bases_are_two_rows_and_no_one_claim(factory: ModuleType) -> None:
    moved = [f"mixer[transfer.from=./{name}]" for name in ("one", "two")]
    fields = {"tasks": ("arc-e",), "task_config": {"shots": 0}}
    records, items = grid(factory, {"base": 0.5, moved[0]: 0.9, moved[1]: 0.1}, **fields)
    made = build(entry("t5"), records, items)
    assert [made.cell(method, "arc-e@0-shot").value for method in moved] == pytest.approx([90, 10])
    claim = judged(records, items, "t5/mixer/base")
    assert (claim.verdict, claim.ran) == ("undetermined", ", ".join(moved))
    one = [record for record in records if record.spec.method != moved[1]]
    assert judged(one, items, "t5/mixer/base").verdict == "supported"


def test_published_values_stand_beside_every_measured_base_model(factory: ModuleType) -> None:
    names = ["mistralai/Mistral-7B-v0.1", "meta-llama/Meta-Llama-3-8B"]
    found = [grid(factory, {"mixer": 0.5}, model=name) for name in names]
    keys = [{p.key for p in build(entry("t2"), *joined(*order)).panels} for order in (found, found[::-1])]
    assert keys[0] == keys[1] >= {"published/mistral-7b", "published/llama3-8b"}
    assert "published/falcon-mamba-7b" not in keys[0]
