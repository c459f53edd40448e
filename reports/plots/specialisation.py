"""Whether routers specialise: entropy, load and own-expert mass of several methods in one figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from reports.notes import distinct
from reports.plots.figure import Axes, Figure, Reference, Series
from reports.scores import placed
from reports.statistics import t_interval
from results.schema import Record, RoutingDiagnostics

_PUBLISHED_EXPERTS = 6
_PUBLISHED_LOADS = (15, 18)
"""Percent that an expert carries over all tasks, smallest and largest in Figure 3."""


def summary(
    records: Sequence[Record], methods: Sequence[str], published: Mapping[str, Any], name: str = "specialisation"
) -> Figure:
    """Normalised entropy, smallest and largest load, and own-expert mass by row: means over tasks, with intervals
    over seeds, beside what the paper says of its Figures 3 and 4 and what its Table 15 lists.

    Args:
        records: finished ones; those without routers are left out.
        methods: in the order in which they are drawn.
        published: `rows` of Table 15, whose last column is the entropy in bits over six experts.
    """
    chosen = [record for method in methods for record in records if record.spec.method == method]
    routed = [(record, record.routing) for record in placed(chosen) if record.routing is not None]
    shown = distinct(record.spec.method for record, _ in routed)
    if not shown:
        return Figure(name, "Routing by method", ())

    def series(label: str, of: Callable[[Sequence[RoutingDiagnostics]], float | None]) -> Series:
        values, lows, highs = _by_seed(routed, shown, of)
        return Series(label, tuple(shown), tuple(values), tuple(lows), tuple(highs))

    size = len(routed[0][1].experts)
    even = Reference("even share", 100 / size)
    scale = _PUBLISHED_EXPERTS / size
    loads = Reference("Figure 3 of the paper, per even share", *(scale * load for load in _PUBLISHED_LOADS))
    entropies = [float(row[-1]) / math.log2(_PUBLISHED_EXPERTS) for row in published.get("rows", {}).values()]
    band = (
        (Reference("Table 15 of the paper, taken as bits over six experts", min(entropies), max(entropies)),)
        if entropies
        else ()
    )
    axes = (
        Axes("rows", "method", "H(p) / ln N", (series("entropy", _entropy),), "Routing entropy", references=band),
        Axes(
            "rows",
            "method",
            "share of applied weight, %",
            (series("least used expert", _least), series("most used expert", _most)),
            "Load over all tasks",
            references=(even, loads),
        ),
        Axes(
            "rows",
            "method",
            "share of p, %",
            (series("own expert", _own),),
            "Mass at the task's own expert",
            references=(even,),
        ),
    )
    seeds = sorted({record.spec.seed for record, _ in routed})
    notes = [
        f"Error bars: 95 % intervals over {len(seeds)} seeds."
        if len(seeds) > 1
        else f"One seed ({seeds[0]}): no interval over seeds exists.",
        "The paper says of its figures that experts carry 15 to 18 % each over all tasks (Figure 3, six experts), and "
        "that on certain tasks some have higher loads than others (Figure 4); neither is published as numbers by task.",
    ]
    return Figure(name, "Routing by method", axes, tuple(notes))


def _by_seed(
    routed: Sequence[tuple[Record, RoutingDiagnostics]],
    shown: Sequence[str],
    of: Callable[[Sequence[RoutingDiagnostics]], float | None],
) -> tuple[list[Any], list[Any], list[Any]]:
    """Value, lower and upper limit of each method, over its seeds."""
    values, lows, highs = [], [], []
    for method in shown:
        own = [(record.spec.seed, d) for record, d in routed if record.spec.method == method]
        found = [of([d for s, d in own if s == seed]) for seed in sorted({seed for seed, _ in own})]
        known = [value for value in found if value is not None]
        interval = t_interval(known) if known else None
        values.append(None if interval is None else interval.value)
        lows.append(None if interval is None or math.isnan(interval.low) else interval.low)
        highs.append(None if interval is None or math.isnan(interval.high) else interval.high)
    return values, lows, highs


def _entropy(found: Sequence[RoutingDiagnostics]) -> float:
    return float(np.mean([one.entropy for one in found]))


def _load(found: Sequence[RoutingDiagnostics]) -> np.ndarray:
    return np.asarray(np.mean([np.array(one.load) / sum(one.load) for one in found], axis=0))


def _least(found: Sequence[RoutingDiagnostics]) -> float:
    return 100 * float(_load(found).min())


def _most(found: Sequence[RoutingDiagnostics]) -> float:
    return 100 * float(_load(found).max())


def _own(found: Sequence[RoutingDiagnostics]) -> float | None:
    masses = [one.own_expert_mass for one in found if one.own_expert_mass is not None]
    return 100 * float(np.mean(masses)) if masses else None
