"""Plots of what routers do: load, entropy and balance."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from reports.notes import distinct
from reports.plots.figure import Axes, Figure, Reference, Series
from reports.scores import placed
from reports.statistics import t_interval
from results.controls import same_fit
from results.schema import Record, RoutingDiagnostics

PUBLISHED_POOL = 6
"""Experts behind the published loads."""


def load_overall(records: Sequence[Record], name: str = "f3", band: tuple[float, float] | None = None) -> Figure:
    """Load of each expert over all tasks (their mean) as share of an even one, with intervals over seeds (Figure 3).

    Args:
        band: published range for six experts, in per cent; it is drawn as share of their even load, 100/6 %, so that
            pools of other sizes stand beside it.
    """
    routed = _routed(records)
    series = []
    for method in distinct(r.spec.method for r, _ in routed):
        experts = next(d.experts for r, d in routed if r.spec.method == method)
        by_seed = [
            np.mean([_of_even(d) for r, d in routed if (r.spec.method, r.spec.seed) == (method, seed)], axis=0)
            for seed in sorted({r.spec.seed for r, _ in routed if r.spec.method == method})
        ]
        series.append(_over_seeds(method, experts, by_seed))
    references = []
    if series:
        references.append(Reference("even load", 1.0))
    if band:
        label = f"published range, {band[0]:g}–{band[1]:g} % of six experts"
        references.append(Reference(label, *(side * PUBLISHED_POOL / 100 for side in band)))
    axes = Axes("bars", "expert", "load / even load", tuple(series), references=tuple(references))
    tasks = distinct(record.spec.task for record, _ in routed)
    notes = (f"Mean over {', '.join(tasks)}. {_spread(routed)}",)
    return Figure(name, "Expert load over all tasks", (axes,) if series else (), notes if series else ())


def load_by_task(
    records: Sequence[Record], methods: Sequence[str] = (), name: str = "f4", against: Sequence[str] = ()
) -> Figure:
    """Share of each expert on each task, one coordinate system per row (Figure 4: with RSL and without).

    The last one shows the first minus the second; methods that the run sets `against` the others come first.

    Args:
        methods: those shown, in this order; all by default.
    """
    first = {method: place for place, method in enumerate(methods or against)}
    shown = [record for record in records if not methods or record.spec.method in first]
    routed = _routed(sorted(shown, key=lambda record: first.get(record.spec.method, len(first))))
    axes = []
    for method in distinct(r.spec.method for r, _ in routed):
        series = []
        own = [(r, d) for r, d in routed if r.spec.method == method]
        for task in distinct(r.spec.task for r, _ in own):
            shares = [_share(d) for r, d in own if r.spec.task == task]
            experts = next(d.experts for r, d in own if r.spec.task == task)
            series.append(_over_seeds(task, experts, shares))
        even = Reference("even share", 100 / len(series[0].x))
        axes.append(Axes("bars", "expert", "share of applied weight, %", tuple(series), method, references=(even,)))
    if len(axes) > 1 and (difference := _difference(routed, axes[0].title, axes[1].title)):
        axes.append(difference)
    return Figure(name, "Expert load by task", tuple(axes), (_spread(routed),) if axes else ())


def _difference(routed: Sequence[tuple[Record, RoutingDiagnostics]], first: str, second: str) -> Axes | None:
    """Share under one method minus that under another, paired by seed, on the tasks that both have.

    None where their pools differ.
    """
    pair = [(r, d) for r, d in routed if r.spec.method in (first, second)]
    experts = pair[0][1].experts
    if any(d.experts != experts for _, d in pair):
        return None
    loads = {(r.spec.method, r.spec.task, r.spec.seed): _share(d) for r, d in pair}
    series = []
    for task in distinct(task for _, task, _ in loads):
        seeds = [s for m, t, s in loads if (m, t) == (first, task) and (second, task, s) in loads]
        if seeds:
            paired = [loads[first, task, seed] - loads[second, task, seed] for seed in seeds]
            series.append(_over_seeds(task, experts, paired))
    even = Reference("no difference", 0.0)
    label = "difference of shares, points"
    return Axes("bars", "expert", label, tuple(series), f"{first} − {second}", references=(even,)) if series else None


def entropy_by_layer(records: Sequence[Record], name: str = "entropy") -> Figure:
    """Normalised routing entropy by layer (mean over the layer's routers, tasks and seeds), one line per method."""
    routed = [(r, d) for r, d in _routed(records) if d.per_module.get("entropy")]
    series = []
    for method in distinct(r.spec.method for r, _ in routed):
        by_layer: dict[int, list[float]] = {}
        for record, diagnostics in routed:
            if record.spec.method != method:
                continue
            for module, value in zip(diagnostics.modules, diagnostics.per_module["entropy"], strict=True):
                by_layer.setdefault(layer_of(module), []).append(float(value))
        layers = sorted(by_layer)
        quarters = [np.quantile(by_layer[layer], [0.25, 0.75]) for layer in layers]
        series.append(
            Series(
                method,
                tuple(float(layer) for layer in layers),
                tuple(float(np.mean(by_layer[layer])) for layer in layers),
                tuple(float(low) for low, _ in quarters),
                tuple(float(high) for _, high in quarters),
            )
        )
    axes = Axes("lines", "layer", "H(p) / ln N", tuple(series), references=(Reference("uniform router", 1.0),))
    notes = ("Bands: middle half over the layer's routers, tasks and seeds.",)
    return Figure(name, "Routing entropy by layer", (axes,) if series else (), notes)


def balance_curve(records: Sequence[Record], name: str = "f6", term: str = "aux") -> Figure:
    """Un-scaled balance loss by optimiser step (Figure 6): mean over seeds, with their range as the band.

    Args:
        term: name of the loss in the training log.
    """
    series = []
    shown = [record for record in placed(records) if not same_fit(record.spec.method_config)]
    routed = [record for record in shown if any(term in step for step in record.training_log)]
    for method in distinct(record.spec.method for record in routed):
        by_seed = {r.spec.seed: r.training_log for r in routed if r.spec.method == method}
        curves = [[float(step[term]) for step in log if term in step] for log in by_seed.values()]
        length = min(len(curve) for curve in curves)
        matrix = np.array([curve[:length] for curve in curves])
        log = next(iter(by_seed.values()))
        steps = [float(step["step"]) for step in log if term in step and "step" in step]
        if len(steps) < length or steps != sorted(set(steps)):  # several phases count anew
            steps = [float(place) for place in range(length)]
        many = len(curves) > 1
        series.append(
            Series(
                method,
                tuple(steps[:length]),
                tuple(matrix.mean(axis=0).tolist()),
                tuple(matrix.min(axis=0).tolist()) if many else (),
                tuple(matrix.max(axis=0).tolist()) if many else (),
            )
        )
    sizes = sorted({len(record.routing.experts) for record in routed if record.routing is not None})
    balanced = tuple(Reference(f"perfect balance, 1/{size}", 1 / size) for size in sizes)
    axes = Axes("lines", "optimiser step", "balance loss (no unit)", tuple(series), references=balanced)
    seeds = sorted({record.spec.seed for record in routed})
    notes = (
        ("Bands: range over seeds.",)
        if any(one.low for one in series)
        else (f"One seed ({seeds[0]}).",)
        if seeds
        else ()
    )
    return Figure(name, "Balance loss during router training", (axes,) if series else (), notes)


def layer_of(module: str) -> int:
    """Number of the layer in a module's path; 0 where it has none."""
    found = re.search(r"\.(\d+)\.", module)
    return int(found[1]) if found else 0


def _routed(records: Sequence[Record]) -> list[tuple[Record, RoutingDiagnostics]]:
    """Records with diagnostics under the names of their rows, but for rows whose routers another row shows."""
    shown = [record for record in placed(records) if not same_fit(record.spec.method_config)]
    return [(record, record.routing) for record in shown if record.routing is not None]


def _spread(routed: Sequence[tuple[Record, RoutingDiagnostics]]) -> str:
    """What the error bars of a load say."""
    seeds = sorted({record.spec.seed for record, _ in routed})
    if len(seeds) == 1:
        return f"One seed ({seeds[0]}): no interval over seeds exists."
    return f"Error bars: 95 % intervals over {len(seeds)} seeds."


def _of_even(diagnostics: RoutingDiagnostics) -> np.ndarray:
    """Load of each expert as share of an even one."""
    return _share(diagnostics) * len(diagnostics.load) / 100


def _share(diagnostics: RoutingDiagnostics) -> np.ndarray:
    load = np.array(diagnostics.load)
    return 100 * load / load.sum()


def _over_seeds(name: str, experts: Sequence[str], shares: Sequence[np.ndarray]) -> Series:
    intervals = [t_interval([float(share[index]) for share in shares]) for index in range(len(experts))]

    def known(side: Callable[[object], float]) -> tuple[float | None, ...]:
        values = [side(one) for one in intervals]
        return tuple(None if value != value else value for value in values)

    return Series(
        name,
        tuple(experts),
        tuple(one.value for one in intervals),
        known(lambda one: one.low),  # type: ignore[attr-defined]
        known(lambda one: one.high),  # type: ignore[attr-defined]
    )
