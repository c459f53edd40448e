"""Items that share a passage count as one cluster, in intervals, floors and tests."""

from __future__ import annotations

import numpy as np
import pytest

from reports.statistics import above_level, clustered, mean_interval, paired_test, task_mean

RNG = np.random.default_rng(0)


def test_a_cluster_value_keeps_the_mean_and_has_the_clustered_variance() -> None:
    scores = RNG.normal(size=(2, 60))
    groups = [n % 17 for n in range(60)]
    values = clustered(scores, groups)
    assert values.shape == (2, 17)
    assert values.mean(axis=1) == pytest.approx(scores.mean(axis=1))
    residuals = [sum(scores[0, i] - scores[0].mean() for i in range(60) if groups[i] == g) for g in range(17)]
    by_hand = 17 / 16 * sum(r**2 for r in residuals) / 60**2
    assert values[0].var(ddof=1) / 17 == pytest.approx(by_hand)


def test_items_that_are_alone_change_nothing() -> None:
    a, b = (RNG.random((3, 40)) < 0.5).astype(float), (RNG.random((3, 40)) < 0.5).astype(float)
    alone = list(range(40))
    assert mean_interval(a, groups=alone) == mean_interval(a)
    assert task_mean([a, b], groups=[alone, None]) == task_mean([a, b])
    assert paired_test(a, b, groups=alone, margin=0.1) == paired_test(a, b, margin=0.1)
    assert paired_test(a[:1], b[:1], groups=alone).method == "McNemar, exact"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("binary", [True, False])
def test_items_repeated_in_groups_count_as_little_as_one(seeds: int, binary: bool) -> None:
    easy = RNG.random((2, 1, 50))  # items matter more than seeds
    a, b = 0.8 * easy + 0.2 * RNG.random((2, seeds, 50))
    a, b = ((a < 0.6).astype(float), (b < 0.5).astype(float)) if binary else (a, b)
    many, other = np.repeat(a, 4, axis=1), np.repeat(b, 4, axis=1)
    groups = [n // 4 for n in range(200)]
    once, repeated = mean_interval(a), mean_interval(many, groups=groups)
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.12)
    assert repeated.n == 200
    test, single = paired_test(many, other, groups=groups), paired_test(a, b)
    assert (test.low, test.high) == pytest.approx((single.low, single.high))
    assert test.p == pytest.approx(single.p, rel=0.35)
    assert "groups of items" in test.method
    assert above_level(many, 0.5, groups) > above_level(many, 0.5) or binary is False


def test_equal_methods_on_clustered_items_are_told_apart_in_five_per_cent() -> None:
    found = {"items": 0, "groups": 0}
    groups = [n // 10 for n in range(300)]
    for seed in range(300):
        random = np.random.default_rng(seed)
        easy = np.repeat(random.normal(size=(2, 30)), 10, axis=1)
        a, b = (random.normal(size=(2, 300)) < easy).astype(float)
        found["items"] += paired_test([a], [b]).p < 0.05
        found["groups"] += paired_test([a], [b], groups=groups).p < 0.05
    assert found["items"] > 60
    assert found["groups"] < 27


def test_groups_are_one_an_item() -> None:
    with pytest.raises(ValueError, match="one group an item"):
        mean_interval([[0.0, 1.0]], groups=["a"])
