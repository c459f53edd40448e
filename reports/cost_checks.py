"""The paper's claims on what LoRA-Mixer costs: parameters, time, memory. Their rules stand in `paper/claims.yaml`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from reports.catalogue import entry
from reports.catalogue.entries import counted
from reports.decisions import seeds_text, seeds_to_decide
from reports.evidence import COMPATIBLE, EXCLUDED, Claim, Evidence, Verdict, seeds_words
from reports.notes import distinct
from reports.statistics import MIN_SEEDS, t_interval
from results.schema import Record

OURS, OTHER = "mixer-joint", "mixlora"
"""The published rows `mixer` and `mixlora`: both train their experts."""
PUBLISHED_PERCENT = 48


def parameters(evidence: Evidence) -> Claim:
    """Counted for the published architecture; no run has a say in it."""
    del evidence
    ours, other = (counted()["parameters"]["methods"][name]["trainable"] for name in (OURS, OTHER))
    whole = [sum(groups.values()) for groups in (ours, other)]
    share, experts = 100 * whole[0] / whole[1], 100 * ours["experts"] / other["experts"]
    met = PUBLISHED_PERCENT in (round(share), round(experts))
    return Claim(
        "parameters",
        f"joint LoRA-Mixer trains {PUBLISHED_PERCENT} % of MixLoRA's parameters",
        "Abstract, Appendix A.4",
        verdict="supported" if round(share) <= PUBLISHED_PERCENT else "contradicted",
        size=COMPATIBLE if met else EXCLUDED,
        measured=f"{share:.1f} % with routers and MixLoRA's attention LoRA ({whole[0]:,} of {whole[1]:,}), "
        f"{experts:.1f} % experts alone",
        ran="nothing: counted for LLaMA-3-8B, six experts of rank 64",
    )


def time(evidence: Evidence) -> Claim:
    """Table 12."""

    def seconds(record: Record) -> float | None:
        return record.cost.seconds.get("evaluate", 0.0) / record.n_items if record.n_items else None

    claim = Claim("time", "LoRA-Mixer is faster than MixLoRA at inference", "Table 12")
    return _ratio(claim, "t12", seconds, evidence)


def memory(evidence: Evidence) -> Claim:
    """Table 14."""

    def peak(record: Record) -> float | None:
        return record.cost.peak_memory.get("fit")

    claim = Claim("memory", "training LoRA-Mixer takes less memory than MixLoRA", "Table 14")
    return _ratio(claim, "t14", peak, evidence)


def _ratio(claim: Claim, table: str, value: Callable[[Record], float | None], evidence: Evidence) -> Claim:
    """The geometric mean over seeds of our cost by the other's, on machines where both were measured."""
    rows = entry(table).paper["blocks"]["llama3-8b"]
    published = rows["mixer"][0] / rows["mixlora"][0]
    claim = replace(claim, text=f"{claim.text}, by a factor of {published:.3f}")
    own = [r for r in evidence.of(entry(table)) if r.spec.method in (OURS, OTHER) and value(r)]
    by_place: dict[tuple[str, str, str, int], dict[str, Record]] = {}
    for record in own:
        place = record.environment.hardware, record.model.label, record.spec.task, record.spec.seed
        by_place.setdefault(place, {})[record.spec.method] = record
    pairs = {place: pair for place, pair in by_place.items() if len(pair) == 2}
    if not pairs:
        return claim
    logs: dict[int, list[float]] = {}
    for place, pair in pairs.items():
        logs.setdefault(place[-1], []).append(math.log((value(pair[OURS]) or 1.0) / (value(pair[OTHER]) or 1.0)))
    means = [sum(found) / len(found) for found in logs.values()]
    interval = t_interval(means)
    verdict: Verdict = "undetermined"
    if len(means) >= MIN_SEEDS and (interval.low > 0 or interval.high < 0):
        verdict = "supported" if interval.high < 0 else "contradicted"
    known = not math.isnan(interval.low)
    bounds = f" [{math.exp(interval.low):.3f}, {math.exp(interval.high):.3f}]" if known else ""
    size = ""
    if known and len(means) >= MIN_SEEDS:
        size = COMPATIBLE if interval.low <= math.log(published) <= interval.high else EXCLUDED
    tasks = distinct(place[2] for place in pairs)
    decides = seeds_text(len(means), seeds_to_decide(abs(interval.value), interval.std))
    return replace(
        claim,
        verdict=verdict,
        size=size,
        measured=f"factor {math.exp(interval.value):.3f}{bounds}",
        ran=f"{OURS} and {OTHER} on {', '.join(tasks)}, {seeds_words(len(means))}; "
        + "; ".join(distinct(place[0] for place in pairs)),
        decides=decides if verdict == "undetermined" else "",
        runs=tuple(record.cell for pair in pairs.values() for record in pair.values()),
    )


CHECKS: tuple[Callable[[Evidence], Claim], ...] = (parameters, time, memory)
