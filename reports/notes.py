"""The sentences under a table: what was run, on what, with which budget, and what it could have found."""

from __future__ import annotations

import statistics as st
from collections.abc import Iterable, Mapping, Sequence

from reports.ranking import Family
from reports.scores import Scores
from reports.statistics import detectable
from results.schema import Record


def distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in order of appearance."""
    return list(dict.fromkeys(values))


def provenance(records: Sequence[Record]) -> list[str]:
    """Model, budget, data, prompts and deviations of the records behind a table."""
    if not records:
        return []
    notes = [
        f"Model: {'; '.join(distinct(model_sentence(record) for record in records))}.",
        f"Budget: {'; '.join(distinct(budget_sentence(record) for record in records))}.",
        *tuning_sentences(records),
        f"Data: {_by_task((record.spec.task_name, data_sentence(record)) for record in records)}.",
        f"Prompts: {_by_task((record.spec.task, prompt_sentence(record)) for record in records)}.",
    ]
    notes += distinct(
        f"{record.spec.task_name}: {deviation.rstrip('.')}."
        for record in records
        for deviation in record.data.deviations
    )
    notes += distinct(sentence for record in records for sentence in record.notes)
    return notes


def model_sentence(record: Record) -> str:
    """Model label with its precision."""
    return f"{record.model.label} ({record.model.parameters / 1e6:,.1f} M parameters, {record.model.dtype})"


def budget_sentence(record: Record) -> str:
    """Preset with its numbers; a budget of 0 tokens means the whole training part."""
    budget = record.budget
    experts = f"{budget.expert_tokens:,} training tokens" if budget.expert_tokens else "all training rows"
    routers = f"{budget.router_tokens:,} tokens" if budget.router_tokens else "all rows"
    if budget.router_examples:
        routers = f"{budget.router_examples:,} examples"
    items = "all" if budget.eval_items is None else f"at most {budget.eval_items:,}"
    return (
        f"preset {budget.preset}: {experts} an expert, {routers} for routers, {items} items a task, "
        f"at most {budget.max_new_tokens} new tokens"
    )


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
        return f"One seed ({listed}): 95 % intervals over items only; they do not cover what another seed would change."
    return f"{count} seeds ({listed}): mean ± standard deviation over seeds; 95 % intervals over items and seeds."


def test_sentence(tests: Family) -> str | None:
    """Tests behind the marks, and the family they were corrected over."""
    real = [test for test in tests.tests.values() if test.p_holm is not None]
    if not real:
        return None
    kinds = " / ".join(distinct(test.method for test in real))
    return (
        f"Bold: best of its panel; underlined: not distinguishable from it ({kinds}; "
        f"Holm-corrected over the panel's {len(real)} pairs, 5 %)."
    )


def power_sentence(tests: Family, columns: Mapping[str, Mapping[str, Scores]]) -> str | None:
    """Smallest difference that each task's items could have shown, at the corrected level."""
    family_size = sum(test.p_holm is not None for test in tests.tests.values())
    parts = []
    for column, scores in columns.items():
        found = [test for (name, _, _), test in tests.tests.items() if name == column and test.discordant > 0]
        fractions = all(one.unit == "fraction" for one in scores.values())
        if not found or not fractions:
            continue
        discordant = st.median(test.discordant for test in found)
        items = min(test.n_items for test in found)
        difference = detectable(items, discordant, 0.05 / family_size)
        shown = "too few items" if difference != difference else f"{100 * difference:.1f}"
        parts.append(f"{column} {shown} ({items} items, {100 * discordant:.0f} % answered differently)")
    if not parts:
        return None
    return (
        "Smallest difference in points that one seed's items would show with 80 % power at the corrected level: "
        f"{'; '.join(parts)}."
    )
