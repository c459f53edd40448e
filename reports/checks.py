"""Claims of the paper that are about something else than the gain of one method over another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from reports import cost_checks, loss_checks
from reports.catalogue import entry
from reports.catalogue.select import by_axis
from reports.catalogue.series import common_grids, curves, points
from reports.decisions import items_to_decide, seeds_text, seeds_to_decide
from reports.efficiency import data_fractions, efficiency
from reports.evidence import (
    COMPATIBLE,
    ELSEWHERE,
    EXCLUDED,
    Claim,
    Evidence,
    Verdict,
    bounds_text,
    in_points,
    labels,
    mean_difference,
    published_gain,
    seeds_words,
)
from reports.notes import distinct
from reports.statistics import MIN_SEEDS, PairedTest, holm, t_interval

DATA_FRACTION = 0.5162
EVEN_LOAD = (15 / (100 / 6), 18 / (100 / 6))
"""Published range of loads relative to an even share of six experts."""


def _data(evidence: Evidence) -> Claim:
    """Direction: the areas under the two curves. Size: whether the published fraction is among those not excluded."""
    claim = Claim(
        "data",
        "RSL learns from less routing data than the plain loss: 51.62 % suffice",
        "Section 4.5, Table 9",
    )
    one = entry("t9")
    grids = common_grids(one, by_axis(one, evidence.records, evidence.variants), evidence.items)
    ((grid, tasks),) = grids.values()
    some = next((column for by in grid.values() for column in by.values()), {})
    panel = curves(one, grid, [task for task in tasks if in_points(some[task])])
    if panel is None:
        return claim
    (a, b, *others), groups = panel
    area = efficiency(a, b, groups, margin=0.01, others=others).area
    last = data_fractions(a, b, groups, others)[-1]
    size = ""
    if area.decisive and last.fraction is not None and {*tasks} != {*one.tasks}:
        size = ELSEWHERE
    elif area.decisive and last.fraction is not None:
        outside = (last.high is not None and last.high < DATA_FRACTION) or (
            last.low is not None and last.low > DATA_FRACTION
        )
        size = EXCLUDED if outside else COMPATIBLE
    runs = tuple(r.cell for by in grid.values() for at in by.values() for found in at.values() for r in found.records)
    return replace(
        claim,
        test=area,
        size=size,
        measured=f"area {points(area)} points; fraction of {last.examples:,} examples: {last.text()}",
        ran=f"{', '.join(grid)} on {', '.join(tasks)} ({seeds_words(area.n_seeds)})",
        runs=runs,
    )


def _load(evidence: Evidence) -> Claim:
    low, high = EVEN_LOAD
    text = f"every expert carries {low:.2f} to {high:.2f} of an even share (15 to 18 % of six)"
    claim = Claim("load", text, "Figure 3")
    own = [(r, r.routing) for r in evidence.of(entry("f3")) if r.routing is not None]
    if not own:
        return claim
    seeds = sorted({r.spec.seed for r, _ in own})
    by_seed = [
        np.mean([np.array(d.load) / sum(d.load) * len(d.load) for r, d in own if r.spec.seed == seed], axis=0)
        for seed in seeds
    ]
    shares = np.array(by_seed)
    intervals = [t_interval(shares[:, k].tolist()) for k in range(shares.shape[1])]
    verdict: Verdict = "undetermined"
    enough = len(seeds) >= MIN_SEEDS
    if enough and all(i.low >= low and i.high <= high for i in intervals):
        verdict = "supported"
    elif enough and any(i.high < low or i.low > high for i in intervals):
        verdict = "contradicted"
    means = shares.mean(axis=0)
    decides = ""
    if verdict == "undetermined":
        inside = all(low <= mean <= high for mean in means)
        distances = [min(abs(mean - low), abs(mean - high)) for mean in means]
        needed = [
            seeds_to_decide(distance, i.std)
            for distance, i, mean in zip(distances, intervals, means, strict=True)
            if inside or not low <= mean <= high
        ]
        decides = seeds_text(len(seeds), max(needed) if inside else min(needed))
    return replace(
        claim,
        verdict=verdict,
        measured=f"{means.min():.2f} to {means.max():.2f} of an even share",
        ran=f"mixer over {len({r.spec.task for r, _ in own})} tasks, {seeds_words(len(seeds))}, pool of {len(means)}",
        decides=decides,
        runs=tuple(r.cell for r, _ in own),
    )


def _sharp(evidence: Evidence) -> Claim:
    claim = Claim("own-expert", "RSL gives a task's own expert more weight than the plain loss", "Figure 4")
    one = entry("f4")
    rsl, plain = one.methods[:2]
    masses: dict[str, dict[int, list[float]]] = {rsl: {}, plain: {}}
    routed = [r for r in evidence.of(one) if r.spec.method in masses and r.routing is not None]
    own = [r for r in routed if r.routing is not None and r.routing.own_expert_mass is not None]
    for record in own:
        assert record.routing is not None
        mass = record.routing.own_expert_mass
        masses[record.spec.method].setdefault(record.spec.seed, []).append(float(mass or 0.0))
    seeds = sorted(set(masses[rsl]) & set(masses[plain]))
    if not seeds:
        return claim
    interval = t_interval([float(np.mean(masses[rsl][s]) - np.mean(masses[plain][s])) for s in seeds])
    verdict: Verdict = "undetermined"
    if len(seeds) >= MIN_SEEDS and (interval.low > 0 or interval.high < 0):
        verdict = "supported" if interval.low > 0 else "contradicted"
    return replace(
        claim,
        verdict=verdict,
        measured=f"{interval.value:+.3f} of the mass{bounds_text(interval.low, interval.high, 3)}",
        ran=f"{rsl} and {plain} on {', '.join(distinct(r.spec.task for r in own))}, {seeds_words(len(seeds))}",
        decides=seeds_text(len(seeds), seeds_to_decide(abs(interval.value), interval.std))
        if verdict == "undetermined"
        else "",
        runs=tuple(r.cell for r in own),
    )


def _rank(evidence: Evidence) -> Claim:
    claim = Claim("rank", "LoRA-Mixer beats the single LoRA at every rank", "Tables 2, 18 to 20")
    outcomes: list[tuple[str, PairedTest]] = []
    gains: list[float | None] = []
    runs: tuple[str, ...] = ()
    for name, rank in (("t18", 16), ("t19", 32), ("t2", 64), ("t20", 128)):
        labelled = {r.cell for r in evidence.records if any(v.split(":")[0] == name for v in labels(evidence, r))}
        own = Evidence([r for r in evidence.records if r.cell in labelled], evidence.items, evidence.variants)
        if name == "t2":  # a small preset keeps its own rank there
            own = replace(own, records=[r for r in own.records if r.budget.preset.startswith("paper")])
        test, tasks, used = mean_difference(entry(name), own, "mixer", "lora")
        if test is not None:
            outcomes.append((f"rank {rank}", test))
            gains.append(published_gain(entry(name), "mixer", "lora", tasks))
            runs += used
    if len(outcomes) < 2:
        return claim
    tests = holm([test for _, test in outcomes])
    verdict: Verdict = "undetermined"
    if all(test.significant and test.difference > 0 for test in tests):
        verdict = "supported"
    elif any(test.significant and test.difference < 0 for test in tests):
        verdict = "contradicted"
    shown = ", ".join(
        f"{label}: {100 * test.difference:+.1f}" for (label, _), test in zip(outcomes, tests, strict=True)
    )
    return replace(
        claim,
        verdict=verdict,
        measured=shown.replace("-", "−"),
        ran=f"lora and mixer at {', '.join(label for label, _ in outcomes)}",
        decides="; ".join(
            f"{label}: {items_to_decide(test, gain, 0.05 / len(tests), ('mixer', 'lora'))}"
            for (label, _), test, gain in zip(outcomes, tests, gains, strict=True)
            if not test.significant
        )
        if verdict == "undetermined"
        else "",
        runs=runs,
    )


CHECKS: tuple[Callable[[Evidence], Claim], ...] = (
    *cost_checks.CHECKS[:1],
    _data,
    _load,
    _sharp,
    _rank,
    *loss_checks.CHECKS,
    *cost_checks.CHECKS[1:],
)
