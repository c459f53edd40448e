"""How far a judge agrees with itself and with exact match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RIGHT_FROM = 50.0


@dataclass(frozen=True)
class Agreement:
    """A judge beside exact match, over the items that have both.

    `agreement` is the share of items where "score at least 50" and exact match say the same, `kappa` Cohen's kappa of
    the two (None when either of them never varies), `mean_right` and `mean_wrong` the mean score of the items that
    exact match calls right and wrong (None without any).
    """

    n: int
    agreement: float
    kappa: float | None
    mean_right: float | None
    mean_wrong: float | None


def repeat_agreement(scores: Sequence[Sequence[float | None]]) -> tuple[float | None, str]:
    """Krippendorff's alpha (interval level) of repeated verdicts, and a note where it is undefined.

    Args:
        scores: for every item, one score per repeat (None where unscored); items may have lost repeats.

    Returns:
        Alpha (1 is perfect agreement, 0 that of chance, below 0 systematic disagreement), or None and the reason.
    """
    repeats = max((len(row) for row in scores), default=0)
    if repeats < 2:
        return None, "one verdict per answer"
    paired = [row for row in scores if sum(score is not None for score in row) >= 2]
    if len(paired) < 2:
        return None, "fewer than two answers were scored twice"
    if len({score for row in paired for score in row if score is not None}) < 2:
        return None, "all verdicts are equal, so agreement by chance is certain"
    import krippendorff
    import numpy as np

    table = np.full((repeats, len(paired)), np.nan)
    for column, row in enumerate(paired):
        for rater, score in enumerate(row):
            if score is not None:
                table[rater, column] = score
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="interval")), ""


def exact_match_agreement(scores: Sequence[float | None], exact: Sequence[bool | None]) -> Agreement | None:
    """Agreement of scores (0 to 100) with exact match; None when no item has both."""
    both = [(score, gold) for score, gold in zip(scores, exact, strict=True) if score is not None and gold is not None]
    if not both:
        return None
    judged = [score >= RIGHT_FROM for score, _ in both]
    gold = [right for _, right in both]
    kappa = None
    if len(set(judged)) > 1 and len(set(gold)) > 1:
        from sklearn.metrics import cohen_kappa_score

        kappa = float(cohen_kappa_score(judged, gold))
    return Agreement(
        n=len(both),
        agreement=sum(a == b for a, b in zip(judged, gold, strict=True)) / len(both),
        kappa=kappa,
        mean_right=_mean([score for score, right in both if right]),
        mean_wrong=_mean([score for score, right in both if not right]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
