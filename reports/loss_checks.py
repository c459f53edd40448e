"""The paper's claims on RSL's weights and its balance term, and on k. Their rules stand in `paper/claims.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from reports.catalogue import entry
from reports.catalogue.series import mean_tests
from reports.decisions import items_to_decide, seeds_text, seeds_to_decide
from reports.evidence import Claim, Evidence, Verdict, bounds_text, in_points, mean_difference, seeds_words
from reports.notes import distinct
from reports.plots.scores import weights_of
from reports.ranking import Question
from reports.scores import Scores, gather, on_shared_seeds
from reports.statistics import MIN_SEEDS, PairedTest, holm, t_interval

BEST_WEIGHTS = (0.1, 0.05)
BEST_K = 3
TENTH = 0.1


def top_k(evidence: Evidence) -> Claim:
    """Figure 5: k = 3 against every other k."""
    return _against_three(evidence, Claim("top-k", "three experts per token are best", "Figure 5"), lambda k: True)


def beyond_three(evidence: Evidence) -> Claim:
    """The text on Figure 5: more than three may degrade."""
    text = "more than three experts per token are worse than three"
    return _against_three(evidence, Claim("top-k-beyond", text, "Figure 5, Appendix A.3"), lambda k: k > BEST_K)


def weights(evidence: Evidence) -> Claim:
    """Table 15."""
    alpha, lambda_ = BEST_WEIGHTS
    claim = Claim("weights", f"alpha = {alpha:g} with lambda = {lambda_:g} is best", "Table 15")
    one = entry("t15")
    by_weights: dict[tuple[float, float], str] = {}
    for method in one.methods:
        if (found := weights_of(method)) is not None:
            by_weights.setdefault(found, method)  # a row's other readings come after it
    best = by_weights.pop(BEST_WEIGHTS)
    outcomes: list[tuple[str, PairedTest]] = []
    runs: tuple[str, ...] = ()
    for (a, b), method in by_weights.items():
        test, _, used = mean_difference(one, evidence, best, method)
        if test is not None:
            outcomes.append((f"alpha={a:g} lambda={b:g}", test))
            runs += used
    if len(outcomes) < len(by_weights):
        return claim
    return _all_of(claim, outcomes, f"the {len(by_weights) + 1} published settings", runs)


def balance(evidence: Evidence) -> Claim:
    """Figure 6."""
    claim = Claim("balance", "the balance loss drops while routers are trained with RSL", "Figure 6")
    one = entry("f6")
    own = [r for r in evidence.of(one) if r.spec.method == one.methods[0]]
    curves = {r.spec.seed: (r, [float(step["aux"]) for step in r.training_log if "aux" in step]) for r in own}
    curves = {seed: found for seed, found in curves.items() if len(found[1]) >= 1 / TENTH}
    if not curves:
        return claim
    drops = [_ends(curve) for _, curve in curves.values()]
    interval = t_interval([last - first for first, last in drops])
    verdict: Verdict = "undetermined"
    if len(drops) >= MIN_SEEDS and (interval.low > 0 or interval.high < 0):
        verdict = "supported" if interval.high < 0 else "contradicted"
    first, last = np.mean(drops, axis=0)
    decides = seeds_text(len(drops), seeds_to_decide(abs(interval.value), interval.std))
    bounds = bounds_text(interval.low, interval.high, 4)
    return replace(
        claim,
        verdict=verdict,
        measured=f"from {first:.4f} to {last:.4f}: {interval.value:+.4f}{bounds}".replace("-", "−"),
        ran=f"{one.methods[0]}, {seeds_words(len(drops))}",
        decides=decides if verdict == "undetermined" else "",
        runs=tuple(record.cell for record, _ in curves.values()),
    )


def _ends(curve: Sequence[float]) -> tuple[float, float]:
    """Means over the first and the last tenth of the steps."""
    part = max(1, round(TENTH * len(curve)))
    return float(np.mean(curve[:part])), float(np.mean(curve[-part:]))


def _against_three(evidence: Evidence, claim: Claim, chosen: Callable[[int], bool]) -> Claim:
    one = entry("f5")
    by_k: dict[int, dict[str, Scores]] = {}
    for key, scores in gather(evidence.of(one), evidence.items).items():
        k = scores.records[0].spec.method_config.get("route", {}).get("eval_k")
        if k is not None:
            by_k.setdefault(int(k), {})[key.task] = scores
    others = [k for k in sorted(by_k) if k != BEST_K and chosen(k)]
    if BEST_K not in by_k or not others:
        return claim
    tasks = [task for task in one.tasks if all(task in by_k[k] for k in (BEST_K, *others))]
    tasks = [task for task in tasks if in_points(by_k[BEST_K][task])]
    if not tasks:
        return claim
    joined = {str(k): on_shared_seeds({task: by_k[k][task] for task in tasks}) for k in (BEST_K, *others)}
    found = mean_tests(joined, Question(str(BEST_K))) if all(joined.values()) else {}
    outcomes = [(f"k={k}", test) for (_, k), test in found.items()]
    if not outcomes:
        return claim
    seeds = min(test.n_seeds for _, test in outcomes)
    ran = f"k = {', '.join(sorted(joined, key=int))} on {', '.join(tasks)} ({seeds_words(seeds)})"
    runs = tuple(r.cell for by_task in joined.values() for scores in by_task.values() for r in scores.records)
    return _all_of(claim, outcomes, ran, runs, "k=3: ")


def _all_of(
    claim: Claim, outcomes: Sequence[tuple[str, PairedTest]], ran: str, runs: Sequence[str], head: str = ""
) -> Claim:
    """Supported where every difference is found, contradicted where one of the other sign is; Holm-corrected."""
    tests = holm([test for _, test in outcomes])
    verdict: Verdict = "undetermined"
    if all(test.significant and test.difference > 0 for test in tests):
        verdict = "supported"
    elif any(test.significant and test.difference < 0 for test in tests):
        verdict = "contradicted"
    differences = ", ".join(
        f"{100 * test.difference:+.1f} to {label}" for (label, _), test in zip(outcomes, tests, strict=True)
    )
    least = min(tests, key=lambda test: test.difference)
    return replace(
        claim,
        verdict=verdict,
        measured=f"{head}{differences}".replace("-", "−"),
        ran=ran,
        decides=items_to_decide(least, None, 0.05 / len(tests)) if verdict == "undetermined" else "",
        runs=tuple(distinct(runs)),
    )


CHECKS: tuple[Callable[[Evidence], Claim], ...] = (top_k, beyond_three, weights, balance)
