"""Figures of agreement against worked examples, and where they are undefined."""

from __future__ import annotations

import pytest

from tasks.judge.agreement import exact_match_agreement, repeat_agreement

_ = None
# Four observers and twelve units: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


def test_alpha_is_the_published_one() -> None:
    units = [list(unit) for unit in zip(*OBSERVERS, strict=True)]
    alpha, note = repeat_agreement(units)
    assert alpha == pytest.approx(0.849, abs=5e-4)
    assert note == ""


def test_perfect_and_systematic_disagreement() -> None:
    assert repeat_agreement([[10, 10], [90, 90]])[0] == pytest.approx(1.0)
    below = repeat_agreement([[0, 100], [100, 0], [0, 100]])[0]
    assert below is not None
    assert below < 0


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ([], "one verdict"),
        ([[50.0], [60.0]], "one verdict"),
        ([[50.0, None], [60.0, 70.0]], "fewer than two"),
        ([[50.0, 50.0], [50.0, 50.0]], "all verdicts are equal"),
    ],
)
def test_alpha_is_undefined_and_says_why(scores: list[list[float | None]], why: str) -> None:
    alpha, note = repeat_agreement(scores)
    assert alpha is None
    assert why in note


def test_agreement_with_exact_match() -> None:
    figures = exact_match_agreement([100, 80, 20, 0, None, 50], [True, True, False, True, True, None])
    assert figures is not None
    assert (figures.n, figures.agreement) == (4, 0.75)
    assert figures.kappa == pytest.approx(0.5)
    assert figures.mean_right == pytest.approx(60.0)
    assert figures.mean_wrong == pytest.approx(20.0)


def test_kappa_is_undefined_when_one_side_never_varies() -> None:
    figures = exact_match_agreement([100, 90], [True, False])
    assert figures is not None
    assert figures.kappa is None


def test_without_gold_or_scores_there_is_no_figure() -> None:
    assert exact_match_agreement([1.0], [None]) is None
    assert exact_match_agreement([None], [True]) is None
