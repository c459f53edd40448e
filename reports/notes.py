"""The sentences under a table: what was run, on what, with which budget, and what it could have found."""

from __future__ import annotations

import statistics as st
from collections.abc import Callable, Iterable, Mapping, Sequence

from reports.ranking import Family
from reports.scores import Scores
from reports.statistics import detectable, detectable_mean, is_binary
from reports.tables import Note, display_unit
from results.schema import Record


def distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in order of appearance."""
    return list(dict.fromkeys(values))


def provenance(records: Sequence[Record]) -> list[str]:
    """Model, budget, data, prompts and deviations of the records behind a table; floats keep the first two."""
    if not records:
        return []
    notes = [
        f"Model: {'; '.join(distinct(model_sentence(record) for record in records))}.",
        f"Budget: {budget_sentence(records)}.",
        *tuning_sentences(records),
        Note(f"Data: {_by_task((record.spec.task_name, data_sentence(record)) for record in records)}."),
        Note(f"Prompts: {_by_task((record.spec.task, prompt_sentence(record)) for record in records)}."),
    ]
    deviations = distinct(
        f"{record.spec.task_name}: {deviation.rstrip('.')}."
        for record in records
        for deviation in record.data.deviations
    )
    notes += map(Note, deviations)
    return notes + record_notes(records) + judge_sentences(records)


def record_notes(records: Sequence[Record]) -> list[str]:
    """What records say of themselves, each sentence once, with the methods and tasks that it holds for if not all."""
    of: dict[str, list[Record]] = {}
    for record in records:
        for sentence in record.notes:
            of.setdefault(sentence, []).append(record)

    def some(values: Callable[[Record], str], chosen: Sequence[Record]) -> str:
        named = distinct(map(values, chosen))
        return "" if len(named) == len({values(record) for record in records}) else ", ".join(named)

    notes: list[str] = []
    for sentence, chosen in of.items():
        methods, tasks = some(lambda r: r.spec.method, chosen), some(lambda r: r.spec.task, chosen)
        where = " on ".join(filter(None, (methods, tasks)))
        notes.append(Note(f"{where}: {sentence}" if where else sentence))
    return notes


def judge_sentences(records: Sequence[Record]) -> list[str]:
    """Who judged each task, and how far the judge agrees with exact match and with itself, method by method."""
    sentences = []
    for task in distinct(record.spec.task for record in records if "judge" in record.extra):
        own = [record for record in records if record.spec.task == task and "judge" in record.extra]
        facts = [record.extra["judge"] for record in own]
        models = distinct(model for one in facts for model in one["models"])
        rubrics = distinct(str(one["judge"]["rubric"]) for one in facts)
        sentences.append(f"{task}: judged by {', '.join(models) or 'nobody'} with the rubric {', '.join(rubrics)}.")
        matched = [(_cell(record), one["exact_match"]) for record, one in zip(own, facts, strict=True)]
        shares = [
            f"{name} {100 * found['agreement']:.0f} % of {found['n']}"
            + ("" if found["kappa"] is None else f" (kappa {found['kappa']:.2f})")
            for name, found in matched
            if found is not None
        ]
        if shares:
            sentences.append(Note(f"{task}: judge and exact match say the same of {', '.join(shares)}."))
        repeated = [(_cell(record), one["alpha"]) for record, one in zip(own, facts, strict=True)]
        alphas = [f"{name} {alpha:.2f}" for name, alpha in repeated if alpha is not None]
        if alphas:
            listed = ", ".join(alphas)
            sentences.append(Note(f"{task}: Krippendorff's alpha of the judge's repeated verdicts: {listed}."))
    return sentences


def _cell(record: Record) -> str:
    return f"{record.spec.method} (seed {record.spec.seed})"


def model_sentence(record: Record) -> str:
    """Model label with its precision."""
    return f"{record.model.label} ({record.model.parameters / 1e6:,.1f} M parameters, {record.model.dtype})"


def budget_sentence(records: Sequence[Record]) -> str:
    """Presets with their numbers; 0 tokens means the whole training part. Where cells differ all numbers are listed."""
    return "; ".join(
        _budget(preset, [record for record in records if record.budget.preset == preset])
        for preset in distinct(record.budget.preset for record in records)
    )


def _budget(preset: str, records: Sequence[Record]) -> str:
    budgets = [record.budget for record in records]
    experts = _joined((b.expert_tokens for b in budgets), "training tokens", "all training rows")
    examples = [b.router_examples for b in budgets if b.router_examples]
    routers = _joined(examples, "examples", "") if examples else ""
    if len(examples) < len(budgets):
        tokens = _joined((b.router_tokens for b in budgets if not b.router_examples), "tokens", "all rows")
        routers = " or ".join(filter(None, (routers, tokens)))
    new = _joined((b.max_new_tokens for b in budgets), "new tokens", "")
    return f"preset {preset}: {experts} an expert, {routers} for routers, {_items(records)}, at most {new}"


def _joined(numbers: Iterable[int], unit: str, none: str) -> str:
    """Distinct numbers in ascending order with their unit; 0 is spelled out."""
    found = sorted(set(numbers))
    listed = ", ".join(f"{number:,}" for number in found if number)
    return " or ".join(filter(None, (f"{listed} {unit}" if listed else "", none if 0 in found else "")))


def _items(records: Sequence[Record]) -> str:
    """Limits of items; the tasks with the usual limit are not named."""
    limits: dict[int | None, list[str]] = {}
    for record in records:
        limits.setdefault(record.budget.eval_items, []).append(record.spec.task)
    usual = max(limits, key=lambda limit: (len(set(limits[limit])), limit or 0))
    shown = {limit: "all" if limit is None else f"at most {limit:,}" for limit in limits}
    others = [f"{shown[limit]} of {', '.join(distinct(tasks))}" for limit, tasks in limits.items() if limit != usual]
    return f"{shown[usual]} items a task" + (f" ({'; '.join(others)})" if others else "")


def tuning_sentences(records: Sequence[Record]) -> list[str]:
    """How often the methods were tried on the dev part, where any was; those without a learning rate are named."""
    trials: dict[int, list[str]] = {}
    for record in records:
        if record.budget.tuning_trials:
            trials.setdefault(record.budget.tuning_trials, []).append(record.spec.method)
    single = distinct(trials.pop(1, []))
    sentences = [
        f"Tuning: the best of {count} learning rates on the dev part for {', '.join(distinct(methods))}."
        for count, methods in sorted(trials.items(), reverse=True)
    ]
    if single:
        has = "have" if len(single) > 1 else "has"
        sentences.append(f"Tuning: one trial for {', '.join(single)}, which {has} no learning rate.")
    return sentences


def frozen_sentence(experts: int) -> str:
    """Why a row shows no trained parameters though its experts were trained."""
    return f"Nothing is trained in composing: the {experts:,} parameters of its experts were trained before."


def data_sentence(record: Record) -> str:
    """Source and origin of a task's rows."""
    return f"{record.data.source} ({record.data.origin})"


def prompt_sentence(record: Record) -> str:
    """Shots and prompt style of a task."""
    config = record.spec.task_config
    shots = config.get("shots")
    mode = f" ({config['fewshot']})" if shots and config.get("fewshot") else ""
    shown = "the task's own shots" if shots is None else f"{shots}-shot{mode}"
    template = ", chat template" if record.model.chat_template else ""
    return f"{shown}, {config.get('prompt', 'default')} prompts{template}"


def _by_task(pairs: Iterable[tuple[str, str]]) -> str:
    """Sentences with the tasks they hold for; the tasks are left out where one sentence holds for all."""
    tasks: dict[str, list[str]] = {}
    for task, sentence in pairs:
        tasks.setdefault(sentence, []).append(task)
    if len(tasks) == 1:
        return next(iter(tasks))
    return "; ".join(f"{', '.join(distinct(names))}: {sentence}" for sentence, names in tasks.items())


def seeds_sentence(scores: Iterable[Scores]) -> str:
    """Seeds, and what the intervals cover."""
    seeds = sorted({seed for one in scores for seed in one.seeds})
    count = max((len(one.seeds) for one in scores), default=0)
    listed = ", ".join(map(str, seeds))
    if count <= 1:
        text = f"One seed ({listed}): 95 % intervals over items only"
        return Note(f"{text}; they do not cover what another seed would change.", short=f"{text}.")
    return f"{count} seeds ({listed}): mean ± standard deviation over seeds; 95 % intervals over items and seeds."


def marks_sentence(tests: Family, panel: str = "") -> str | None:
    """Tests behind the marks, and the family they were corrected over; the panel is named where there are several."""
    real = [test for test in tests.tests.values() if test.p_holm is not None]
    if not real:
        return None
    kinds = " / ".join(distinct(test.method for test in real))
    text = (
        f"Bold: best of its panel; underlined: not distinguishable from it ({kinds}; "
        f"Holm-corrected over the panel's {len(real)} pairs, 5 %)."
    )
    short = f"Bold: best; underlined: not distinguishable from it ({kinds}; Holm-corrected, 5 %)."
    return Note(_of(panel) + text, short=short)


def power_sentence(tests: Family, columns: Mapping[str, Mapping[str, Scores]], panel: str = "") -> str | None:
    """Smallest difference that each column's items could have shown, at the corrected level.

    Right-or-wrong scores: from the share of items that two methods answer differently, for one seed. Other scores
    and the mean over tasks: from the spread of the items' differences, averaged over seeds.
    """
    family_size = sum(test.p_holm is not None for test in tests.tests.values())
    parts = []
    for column in distinct(name for name, _, _ in tests.tests):
        found = [test for (name, _, _), test in tests.tests.items() if name == column and test.discordant > 0]
        if not found:
            continue
        scores = list((columns.get(column) or next(filter(None, columns.values()))).values())
        items = min(test.n_items for test in found)
        if column in columns and all(one.unit == "fraction" and is_binary(one.values) for one in scores):
            discordant = st.median(test.discordant for test in found)
            difference = detectable(items, discordant, 0.05 / family_size)
            basis = f"{100 * discordant:.0f} % answered differently"
        else:
            sd = st.median(test.sd for test in found)
            difference = detectable_mean(items, sd, 0.05 / family_size)
            seeds = f", mean of {found[0].n_seeds} seeds" if found[0].n_seeds > 1 else ""
            basis = f"differences with standard deviation {display_unit(scores[0].unit)[1] * sd:.0f}{seeds}"
        shown = "too few items" if difference != difference else f"{display_unit(scores[0].unit)[1] * difference:.1f}"
        parts.append(f"{column} {shown} ({items} items, {basis})")
    if not parts:
        return None
    return Note(
        f"{_of(panel)}Smallest difference in points that one seed's items would show with 80 % power at the corrected "
        f"level: {'; '.join(parts)}."
    )


def _of(panel: str) -> str:
    return f"{panel}. " if panel else ""
