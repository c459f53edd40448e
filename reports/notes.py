"""The sentences under a table: what was run, on what, with which budget, and what it could have found."""

from __future__ import annotations

import math
import statistics as st
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reports import budgets, collapse
from reports.ranking import MEAN, Family
from reports.scores import Scores, placed
from reports.statistics import MIN_SEEDS, detectable_by
from reports.tables import Note, display_unit
from results.schema import Record


def distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in order of appearance."""
    return list(dict.fromkeys(values))


def provenance(records: Sequence[Record]) -> list[str]:
    """Model, budget, data, prompts and deviations of the records behind a table; floats keep what is first."""
    if not records:
        return []
    notes = [
        f"Model: {'; '.join(distinct(model_sentence(record) for record in records))}.",
        f"Budget: {budget_sentence(records)}.",
        *brought_sentences(records),
        *budgets.sentences(records),
        *tuning_sentences(records),
        *collapse.sentences(records),
        *distinct(f"{record.label or record.spec.method_name}: {record.about}" for record in records if record.about),
        Note(f"Data: {_by_task((record.spec.task_name, data_sentence(record)) for record in records)}."),
        Note(f"Prompts: {_by_task((record.spec.task, prompt_sentence(record)) for record in records)}."),
    ]
    deviations = distinct(
        f"{record.spec.task_name}: {deviation.rstrip('.')}."
        for record in records
        for deviation in record.data.deviations
    )
    notes += map(Note, deviations)
    named = placed(records)
    return notes + record_notes(records) + unscored_sentences(named) + judge_sentences(named)


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


def unscored_sentences(records: Sequence[Record]) -> list[str]:
    """Where items have no verdict, the mean that counts them as 0 beside that of the table, cell by cell."""
    sentences = []
    for task in distinct(record.spec.task for record in records):
        means = []
        for record in records:
            second = record.metrics.get(f"{record.primary}_unscored_as_0")
            if record.spec.task == task and second is not None and record.n_unscored:
                factor = 100 if second.unit == "fraction" else 1
                counted = f"{record.n_unscored} of {record.n_items}"
                means.append(f"{_cell(record)} {factor * second.value:.1f} ({counted} unscored)")
        if means:
            sentences.append(f"{task}: with unscored items as 0 the means are {', '.join(means)}.")
    return sentences


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


def brought_sentences(records: Sequence[Record]) -> list[str]:
    """Where experts come from that were not trained here, and which of them were made for another base model."""
    found = [(one, record.spec.model) for record in records for one in record.extra.get("brought", ())]
    places = distinct(_place(one) for one, _ in found)
    made_for = distinct(
        f"{one['name']} was made for {one['base']}"
        for one, model in found
        if one["base"] and _last(one["base"]) != _last(model)
    )
    sentences = [f"Trained elsewhere: {', '.join(places)}."] if places else []
    return sentences + ([f"Another base model: {', '.join(made_for)}."] if made_for else [])


def _place(one: Mapping[str, Any]) -> str:
    """A brought expert with its place and revision; that of a reference pool has no other name there."""
    name, place, revision = one["name"], one["place"], one["revision"][:12]
    return f"{place} ({revision})" if place == f"reference/{name}" else f"{name} ({place}, {revision})"


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()


def budget_sentence(records: Sequence[Record]) -> str:
    """Presets with their numbers; 0 tokens means the whole training part. Where cells differ all numbers are listed."""
    return "; ".join(
        _budget(preset, [record for record in records if record.budget.preset == preset])
        for preset in distinct(record.budget.preset for record in records)
    )


def _budget(preset: str, records: Sequence[Record]) -> str:
    allowed = [record.budget for record in records]
    trained = [record.budget for record in records if _trains_experts(record)]
    experts = _joined((b.expert_tokens for b in trained), "training tokens", "all training rows")
    by_examples = [b for b in allowed if b.router_examples]
    routers = _joined((b.router_examples or 0 for b in by_examples), "examples", "")
    if capped := [b.router_tokens for b in by_examples if b.router_tokens]:
        routers += f" within {_joined(capped, 'tokens', '')}"
    if len(by_examples) < len(allowed):
        tokens = _joined((b.router_tokens for b in allowed if not b.router_examples), "tokens", "all rows")
        routers = " or ".join(filter(None, (routers, tokens)))
    new = _joined((b.max_new_tokens for b in allowed), "new tokens", "")
    of_experts = f"{experts} an expert, " if trained else ""
    return f"preset {preset}: {of_experts}{routers} for routers, {_items(records)}, at most {new}"


def _trains_experts(record: Record) -> bool:
    """Whether a row spends the budget of experts: on a pool that was not brought whole, or on its own."""
    pool = record.spec.pool
    return len(pool) > len(record.extra.get("brought", ())) if pool else bool(record.parameters.trainable)


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


def passes_sentence(passes: int) -> str:
    """What a row's tokens cost where it is more than one pass of the base model."""
    return f"Every token costs {passes} passes of the base model."


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
    found = list(scores)
    seeds = sorted({seed for one in found for seed in one.seeds})
    count = max((len(one.seeds) for one in found), default=0)
    listed = ", ".join(map(str, seeds))
    few = (
        f" Nothing is decided, and no mark set, where something was trained: that takes {MIN_SEEDS} seeds."
        if count < MIN_SEEDS and any(one.random for one in found)
        else ""
    )
    if count <= 1:
        text = f"One seed ({listed}): 95 % intervals over items only"
        return Note(f"{text}; they do not cover what another seed would change.{few}", short=f"{text}.{few}")
    return f"{count} seeds ({listed}): mean ± standard deviation over seeds; 95 % intervals over items and seeds.{few}"


def clusters_sentences(scores: Iterable[Scores]) -> list[str]:
    """Tasks some of whose evaluated items share a passage, a sentence or a question."""
    sizes = {one.key.task: (len(one.groups), len(set(one.groups))) for one in scores if one.groups is not None}
    return [
        Note(
            f"{task}: some of the {items:,} items share a passage, a sentence or a question: intervals and tests count "
            f"the {groups:,} groups of such items as clusters."
        )
        for task, (items, groups) in sizes.items()
    ]


def sentences_on_tests(tests: Family, columns: Mapping[str, Mapping[str, Scores]], panel: str = "") -> list[str]:
    """What was asked, how it was tested, what the marks mean, and what could have been found; none without tests.

    Args:
        columns: scores by task, for their units.
        panel: named where there are several.
    """
    real = [test for test in tests.tests.values() if test.p_holm is not None]
    if not real:
        return []
    if not any(test.decisive for test in real):
        return []
    found = [_asked(tests, columns, panel), detectable_sentence(tests, columns, panel)]
    return [note for note in found if note]


def _asked(tests: Family, columns: Mapping[str, Mapping[str, Scores]], panel: str) -> Note:
    real = {key: test for key, test in tests.tests.items() if test.p_holm is not None}
    kinds = " / ".join(distinct(test.method for test in real.values() if test.decisive))
    mean = [key for key in real if key[0] == MEAN]
    families = [(len(mean), "on the mean over tasks")] if mean else []
    if len(mean) < len(real):
        families.append((len(real) - len(mean), f"on {'single tasks' if len(columns) > 1 else 'the task'}"))
    holm = " and, as a second family, ".join(f"{count} {where}" for count, where in families)
    against = tests.question.against
    asked = f"{against} against each other row" if against else "every pair of rows"
    tied = "not distinguishable from " + (f"{against} ({against}: from the best)" if against else "the best")
    tested = ((tests.mean_of[0] if name == MEAN else name, test.margin) for (name, _, _), test in real.items())
    margins = distinct(margin_text(margin, columns.get(task, {})) for task, margin in tested if margin is not None)
    margin = f" Equivalent: within {' or '.join(margins)} by two one-sided tests." if margins else ""
    text = f"Bold: best of its panel; underlined: {tied}. Tested: {asked} ({kinds}; 5 %, Holm-corrected over {holm})."
    short = f"Bold: best; underlined: {tied} ({kinds}; Holm-corrected, 5 %)."
    return Note(f"{_of(panel)}{text}{margin}", short=f"{short}{margin}")


def margin_text(margin: float, column: Mapping[str, Scores]) -> str:
    """A margin in the unit in which a column's differences are shown."""
    one = next(iter(column.values()), None)
    return in_unit(margin, one.unit if one else "fraction")


def machines(records: Iterable[Record]) -> list[str]:
    """Kinds of machines that finished cells were computed on."""
    return distinct(record.environment.hardware for record in records if record.status == "done")


def machines_sentence(records: Iterable[Record]) -> str:
    """Where seconds come from, and that those of different machines compare nothing."""
    found = machines(records)
    several = " Seconds of different machines compare nothing." if len(found) > 1 else ""
    return f"Hardware: {'; '.join(found)}.{several}"


def in_unit(value: float, unit: str) -> str:
    """A difference with its unit: fractions in points."""
    shown, factor = display_unit(unit)
    if shown == "%":
        return f"{factor * value:.3g} point{'' if factor * value == 1 else 's'}"
    return f"{value:.3g} {shown}"


def detectable_sentence(tests: Family, columns: Mapping[str, Mapping[str, Scores]], panel: str = "") -> Note | None:
    """Smallest difference that each column's tests would have shown, at the corrected level: the tests that were used.

    For each column the pair in the middle stands; its spread over items and seeds is taken as it was measured.
    """
    parts = []
    for column in distinct(name for name, _, _ in tests.tests):
        found = [t for (name, _, _), t in tests.tests.items() if name == column and t.decisive and t.discordant > 0]
        scores = columns.get(column) or next((columns[task] for task in tests.mean_of), {})
        if not found or not scores:
            continue
        alpha = 0.05 / max(1, tests.size(column))
        sizes = [detectable_by(test, alpha) for test in found]
        known = [size for size in sizes if not math.isnan(size)]
        shown = in_unit(st.median(known), next(iter(scores.values())).unit) if known else "nothing"
        items, seeds = min(test.n_items for test in found), min(test.n_seeds for test in found)
        parts.append(f"{column} {shown} ({items:,} items, {'one seed' if seeds == 1 else f'{seeds} seeds'})")
    if not parts:
        return None
    return Note(
        f"{_of(panel)}Smallest difference that these tests show with 80 % power at the corrected level: "
        f"{'; '.join(parts)}."
    )


def _of(panel: str) -> str:
    return f"{panel}. " if panel else ""
