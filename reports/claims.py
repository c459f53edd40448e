"""The paper's claims against what was measured: supported, contradicted, or undetermined and what would decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from reports.catalogue import entry
from reports.catalogue.model import Entry
from reports.catalogue.select import Variants, by_axis, select
from reports.catalogue.series import common_grid, efficiency, pooled
from reports.decisions import items_for_fraction, items_to_decide, seeds_text, seeds_to_decide
from reports.notes import distinct, model_sentence
from reports.ranking import MEAN, family
from reports.scores import Items, gather
from reports.statistics import PairedTest, holm, paired_test, t_interval
from reports.tables import Cell, Column, Panel, Row, Table
from results.schema import Record

Verdict = Literal["supported", "contradicted", "undetermined", "not measured"]
DATA_FRACTION = 0.5162
EVEN_LOAD = (15 / (100 / 6), 18 / (100 / 6))
"""Published range of loads relative to an even share of six experts."""


@dataclass(frozen=True)
class Claim:
    """One claim and its outcome.

    Attributes:
        text: the claim in words of our own.
        source: where the paper makes it.
        ran: what was measured for it.
        measured: the measured value with its interval, as text.
        decides: what would decide an undetermined claim.
    """

    name: str
    text: str
    source: str
    verdict: Verdict = "not measured"
    ran: str = ""
    measured: str = ""
    decides: str = ""
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Finished records with their items and planned labels."""

    records: Sequence[Record]
    items: Items
    variants: Variants

    def of(self, one: Entry) -> list[Record]:
        """Finished records of an entry."""
        return select(one, self.records, self.variants)


GAINS: tuple[tuple[str, str, str, str], ...] = (
    *(("t2", "mixer", other, "") for other in ("lorahub", "mole", "lora")),
    ("t2", "mixer-joint", "mixlora", "mixer"),
    *(("t8", "mixer", other, "") for other in ("gmoe", "ds-moe", "aesl")),
    ("t6", "mixer", "phatgoose", ""),
    ("t21", "mixer", "phatgoose", ""),
    ("t4", "mixer", "lego", ""),
    ("t10", "mixer", "mole", ""),
    ("t10", "mixer-joint", "mixlora", "mixer"),
)
"""Table, method, baseline, and the method's published row where it goes by another name."""


def claims(records: Sequence[Record], items: Items, variants: Variants | None = None) -> list[Claim]:
    """Every claim with its verdict; the gains are Holm-corrected together.

    Args:
        records: of all statuses; only finished ones count.
    """
    evidence = Evidence([r for r in records if r.status == "done"], items, variants or {})
    return [*_gains(evidence), *(check(evidence) for check in CHECKS)]


def table(found: Sequence[Claim], records: Sequence[Record]) -> Table:
    """The claims as a table."""
    columns = tuple(
        Column(key, label, "text", None)
        for key, label in (
            ("source", "source"),
            ("verdict", "verdict"),
            ("measured", "measured"),
            ("ran", "what was run"),
            ("decides", "what would decide"),
        )
    )
    rows = tuple(
        Row(
            claim.name,
            claim.text,
            {
                "source": Cell(text=claim.source),
                "verdict": Cell(text=claim.verdict, runs=claim.runs),
                "measured": Cell(text=claim.measured or "—"),
                "ran": Cell(text=claim.ran or "—"),
                "decides": Cell(text=claim.decides or "—"),
            },
            "data",
        )
        for claim in found
    )
    models = "; ".join(distinct(model_sentence(record) for record in records if record.status == "done"))
    notes = (
        f"Measured on {models or 'nothing yet'}; the paper's models are others, so a verdict is about the claim at "
        "this scale.",
        "Supported: the measured effect has the claimed direction and its test, corrected over all gains, rejects "
        "no difference at 5 %. Contradicted: the same with the opposite direction. Undetermined: neither.",
    )
    title = "Claims of LoRA-Mixer (arXiv 2507.00029v2) against measurements"
    return Table("reproduction", title, columns, (Panel("claims", "", rows),), "claim", notes)


def _gains(evidence: Evidence) -> list[Claim]:
    tested: list[tuple[Claim, PairedTest | None, float | None, int]] = []
    for name, method, baseline, published_row in GAINS:
        one = entry(name)
        gain = _published_gain(one, published_row or method, baseline)
        claim = Claim(
            f"{name}/{method}/{baseline}",
            f"{published_row or method} beats {baseline}"
            + (f" by {gain:.2f} points on average" if gain is not None else ""),
            _place(one),
        )
        test, tasks, runs = _mean_difference(one, evidence, method, baseline)
        if test is not None:
            ran = f"{method} and {baseline} on {', '.join(tasks)}"
            claim = replace(claim, ran=f"{ran} ({test.n_items} items, {_seeds(test.n_seeds)})", runs=runs)
        tested.append((claim, test, gain, len(tasks)))
    corrected = iter(holm([test for _, test, _, _ in tested if test is not None]))
    alpha = 0.05 / max(1, sum(test is not None for _, test, _, _ in tested))
    return [
        claim if test is None else _judged(claim, next(corrected), items_to_decide(test, gain, tasks, alpha))
        for claim, test, gain, tasks in tested
    ]


def _judged(claim: Claim, test: PairedTest, decides: str) -> Claim:
    verdict: Verdict = "undetermined"
    if test.significant:
        verdict = "supported" if test.difference > 0 else "contradicted"
    corrected = test.p if test.p_holm is None else test.p_holm
    measured = f"{100 * test.difference:+.1f} points{_bounds(100 * test.low, 100 * test.high)}, p = {corrected:.3f}"
    decides = decides if verdict == "undetermined" else ""
    return replace(claim, verdict=verdict, measured=measured.replace("-", "−"), decides=decides)


def _mean_difference(
    one: Entry, evidence: Evidence, method: str, baseline: str
) -> tuple[PairedTest | None, list[str], tuple[str, ...]]:
    grid = gather(evidence.of(one), evidence.items)
    by_task = {
        task: {m: scores for key, scores in grid.items() if key.task == task for m in [key.method]}
        for task in one.tasks
    }
    shared = {
        task: {method: found[method], baseline: found[baseline]}
        for task, found in by_task.items()
        if method in found and baseline in found
    }
    if not shared:
        return None, [], ()
    tests = family(shared, list(shared))
    test = tests.between(MEAN if len(shared) > 1 else next(iter(shared)), method, baseline)
    runs = tuple(r.cell for found in shared.values() for scores in found.values() for r in scores.records)
    return test, list(shared), runs


def _published_gain(one: Entry, method: str, baseline: str) -> float | None:
    """Mean published difference in points, on LLaMA-3-8B where it is published for several models."""
    blocks = one.paper.get("blocks", {})
    rows: dict[str, list[float]] = blocks.get("llama3-8b") or next(iter(blocks.values()), {})
    if method not in rows or baseline not in rows:
        return None
    return float(np.mean(np.array(rows[method]) - np.array(rows[baseline])))


def _parameters(evidence: Evidence) -> Claim:
    claim = Claim("parameters", "joint LoRA-Mixer trains 48 % of MixLoRA's parameters", "Appendix A.4")
    counts = {}
    for method in ("mixer-joint", "mixlora"):
        own = [r for r in evidence.records if r.spec.method == method]
        if not own:
            return claim
        counts[method] = (max(sum(r.parameters.trainable.values()) for r in own), own[0].cell)
    ratio = counts["mixer-joint"][0] / counts["mixlora"][0]
    return replace(
        claim,
        verdict="supported" if ratio <= 0.5 else "contradicted",
        measured=f"{100 * ratio:.1f} % ({counts['mixer-joint'][0]:,} of {counts['mixlora'][0]:,})",
        ran="exact counts of trained parameters; supported up to 50 %",
        runs=tuple(cell for _, cell in counts.values()),
    )


def _data(evidence: Evidence) -> Claim:
    claim = Claim("data", "RSL needs 51.62 % of the routing data of the plain loss", "Section 4.5, Table 9")
    one = entry("t9")
    grid, tasks = common_grid(one, by_axis(one, evidence.records, evidence.variants), evidence.items)
    found = efficiency(one, grid, tasks)
    usable = [f for f in found if f.examples > min(f.examples for f in found)]
    if not usable:
        return claim
    last = usable[-1]
    first = next(iter(next(iter(grid.values())).values()))
    items = sum(first[task].values.shape[1] for task in tasks)
    shown = "not reached" if last.fraction is None else f"{100 * last.fraction:.0f} %"
    if last.low is not None and last.high is not None:
        shown += _bounds(100 * last.low, 100 * last.high)
    verdict: Verdict = "undetermined"
    if last.high is not None and last.high <= DATA_FRACTION:
        verdict = "supported"
    elif last.low is not None and last.low > DATA_FRACTION:
        verdict = "contradicted"
    return replace(
        claim,
        verdict=verdict,
        measured=f"{shown} of {last.examples:,} examples",
        ran=f"{', '.join(grid)} on {', '.join(tasks)}",
        decides=items_for_fraction(last, DATA_FRACTION, items) if verdict == "undetermined" else "",
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
    if all(i.low >= low and i.high <= high for i in intervals):
        verdict = "supported"
    elif any(i.high < low or i.low > high for i in intervals):
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
        ran=f"mixer over {len({r.spec.task for r, _ in own})} tasks, {_seeds(len(seeds))}, pool of {shares.shape[1]}",
        decides=decides,
        runs=tuple(r.cell for r, _ in own),
    )


def _sharp(evidence: Evidence) -> Claim:
    claim = Claim("own-expert", "RSL gives a task's own expert more weight than the plain loss", "Figure 4")
    one = entry("f4")
    rsl, plain = one.methods
    masses: dict[str, dict[int, list[float]]] = {rsl: {}, plain: {}}
    own = [r for r in evidence.of(one) if r.routing is not None and r.routing.own_expert_mass is not None]
    for record in own:
        assert record.routing is not None
        mass = record.routing.own_expert_mass
        masses[record.spec.method].setdefault(record.spec.seed, []).append(float(mass or 0.0))
    seeds = sorted(set(masses[rsl]) & set(masses[plain]))
    if not seeds:
        return claim
    interval = t_interval([float(np.mean(masses[rsl][s]) - np.mean(masses[plain][s])) for s in seeds])
    verdict: Verdict = "undetermined"
    if not math.isnan(interval.low) and (interval.low > 0 or interval.high < 0):
        verdict = "supported" if interval.low > 0 else "contradicted"
    return replace(
        claim,
        verdict=verdict,
        measured=f"{interval.value:+.3f} of the mass{_bounds(interval.low, interval.high, 3)}",
        ran=f"{rsl} and {plain} on {', '.join(distinct(r.spec.task for r in own))}, {_seeds(len(seeds))}",
        decides=seeds_text(len(seeds), seeds_to_decide(abs(interval.value), interval.std))
        if verdict == "undetermined"
        else "",
        runs=tuple(r.cell for r in own),
    )


def _top_k(evidence: Evidence) -> Claim:
    claim = Claim("top-k", "three experts per token are best", "Figure 5")
    one = entry("f5")
    grid = gather(evidence.of(one), evidence.items)
    by_k: dict[int, dict[str, object]] = {}
    for key, scores in grid.items():
        k = scores.records[0].spec.method_config.get("route", {}).get("eval_k")
        if k is not None:
            by_k.setdefault(int(k), {})[key.task] = scores
    if 3 not in by_k or len(by_k) < 2:
        return claim
    tasks = [task for task in one.tasks if all(task in found for found in by_k.values())]
    if not tasks:
        return claim
    joined = {k: pooled(found, tasks, k) for k, found in by_k.items()}  # type: ignore[arg-type]
    others = [k for k in sorted(joined) if k != 3]
    tests = holm([paired_test(joined[3].values, joined[k].values) for k in others])
    verdict: Verdict = "undetermined"
    if all(test.significant and test.difference > 0 for test in tests):
        verdict = "supported"
    elif any(test.significant and test.difference < 0 for test in tests):
        verdict = "contradicted"
    differences = ", ".join(f"{100 * test.difference:+.1f} to k={k}" for k, test in zip(others, tests, strict=True))
    least = min(tests, key=lambda test: test.difference)
    return replace(
        claim,
        verdict=verdict,
        measured=f"k=3: {differences}".replace("-", "−"),
        ran=f"k = {', '.join(map(str, sorted(joined)))} on {', '.join(tasks)} ({_seeds(least.n_seeds)})",
        decides=items_to_decide(least, None, len(tasks), 0.05 / len(tests)) if verdict == "undetermined" else "",
        runs=tuple(r.cell for scores in joined.values() for r in scores.records),
    )


def _rank(evidence: Evidence) -> Claim:
    claim = Claim("rank", "LoRA-Mixer beats the single LoRA at every rank", "Tables 2, 18 to 20")
    outcomes: list[tuple[str, PairedTest]] = []
    gains: list[tuple[float | None, int]] = []
    runs: tuple[str, ...] = ()
    for name, rank in (("t18", 16), ("t19", 32), ("t2", 64), ("t20", 128)):
        labelled = {r.cell for r in evidence.records if any(v.split(":")[0] == name for v in _labels(evidence, r))}
        own = Evidence([r for r in evidence.records if r.cell in labelled], evidence.items, evidence.variants)
        if name == "t2":  # a small preset keeps its own rank there
            own = replace(own, records=[r for r in own.records if r.budget.preset.startswith("paper")])
        test, tasks, used = _mean_difference(entry(name), own, "mixer", "lora")
        if test is not None:
            outcomes.append((f"rank {rank}", test))
            gains.append((_published_gain(entry(name), "mixer", "lora"), len(tasks)))
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
            f"{label}: {items_to_decide(test, *gain, 0.05 / len(tests))}"
            for (label, _), test, gain in zip(outcomes, tests, gains, strict=True)
            if not test.significant
        )
        if verdict == "undetermined"
        else "",
        runs=runs,
    )


CHECKS: tuple[Callable[[Evidence], Claim], ...] = (_parameters, _data, _load, _sharp, _rank, _top_k)


def _labels(evidence: Evidence, record: Record) -> Sequence[str]:
    return list(evidence.variants.get(record.cell, ()))


def _place(one: Entry) -> str:
    return f"Table {one.name[1:]}"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _bounds(low: float, high: float, decimals: int = 1) -> str:
    return "" if math.isnan(low) else f" [{low:.{decimals}f}, {high:.{decimals}f}]"
