"""What each row's fit really used: steps, examples, tokens, learning rates, and whose loss it was.

Methods of one budget can differ in all of them: gates of single experts see a part of the rows each, a search sees five
examples, a cap in tokens ends before one in examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.tables import Note
from results.schema import Record

Phase = Mapping[str, Any]
"""One entry of `Record.extra["fit"]`, see `harness.training.session`."""


def sentences(records: Sequence[Record]) -> list[str]:
    """What fits used, rows that used the same together, and one sentence for each way in which tasks share the loss."""
    fits: dict[str, dict[str, list[Phase]]] = {}
    for record in records:
        phases = record.extra.get("fit") or []
        if phases:
            fits.setdefault(record.spec.method, {})[_fit(record)] = phases
    if not fits:
        return []
    alike: dict[str, list[str]] = {}
    for method, found in fits.items():
        alike.setdefault(_used(list(found.values())), []).append(method)
    if len(alike) == 1 and len(fits) > 1:
        return [Note(f"Fits used, each: {next(iter(alike))}."), *_shares(fits)]
    rows = "; ".join(f"{', '.join(methods)} {used}" for used, methods in alike.items())
    return [Note(f"Fits used: {rows}."), *_shares(fits)]


def _fit(record: Record) -> str:
    """Rows of one method that share a fit have one log, one seed, and the same numbers."""
    return repr((record.spec.seed, record.extra["fit"]))


def _used(fits: Sequence[Sequence[Phase]]) -> str:
    """Of one method: its fits, of seeds or tasks, of one phase or several each."""
    phases = [phase for fit in fits for phase in fit]
    examples, tokens = ([sum(phase[key] for phase in fit) for fit in fits] for key in ("examples", "tokens"))
    amount = f"{_range(examples)} examples, {_range(tokens)} tokens"
    searches = [phase["evaluations"] for phase in phases if phase.get("evaluations")]
    if searches:
        return f"{_range(searches)} evaluations of {amount}, no steps"
    many = max(len(fit) for fit in fits)
    steps = _range([phase["steps"] for phase in phases])
    each = f"{steps} steps" if many == 1 else f"{many} phases of {steps} steps, together"
    return f"{each} ({amount}, {_rates(phases)})" if many == 1 else f"{each} {amount} ({_rates(phases)})"


def _rates(phases: Sequence[Phase]) -> str:
    by_group: dict[str, list[float]] = {}
    for phase in phases:
        for group, rate in phase["lr"].items():
            by_group.setdefault(group, []).append(rate)
    named = {group: " or ".join(f"{rate:g}" for rate in sorted(set(rates))) for group, rates in by_group.items()}
    if len(set(named.values())) == 1:
        return f"rate {next(iter(named.values()))}"
    return ", ".join(f"rate of {group} {rates}" for group, rates in named.items())


def _shares(fits: Mapping[str, Mapping[str, Sequence[Phase]]]) -> list[str]:
    """Sentences on the tasks' shares, means over seeds, with the methods that each holds for."""
    methods: dict[str, list[str]] = {}
    for method, found in fits.items():
        mixed = [phase for fit in found.values() for phase in fit if len(phase.get("shares") or {}) > 1]
        if not mixed:
            continue
        tasks = sorted({task for phase in mixed for task in phase["shares"]})
        means = {task: sum(phase["shares"].get(task, 0.0) for phase in mixed) / len(mixed) for task in tasks}
        listed = ", ".join(f"{task} {100 * share:.0f} %" for task, share in means.items())
        methods.setdefault(f"weighed by {mixed[0]['weigh']}: {listed}", []).append(method)
    single = len(methods) == 1
    return [
        Note(f"Shares of the task loss{'' if single else ' of ' + ', '.join(of)}, {text}.")
        for text, of in methods.items()
    ]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
