"""TIES and DARE entry by entry, against definitions written out as loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.merging.sparse import (
    disjoint_mean,
    drop,
    keep_count,
    magnitude_threshold,
    streamed_threshold,
    trim,
)

NUMBERS = st.sampled_from([-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])


def slow_disjoint_mean(columns: list[list[float]], tie: str) -> list[float]:
    sums = [math.fsum(column) for column in columns]
    crowd = 1 if sum((s > 0) - (s < 0) for s in sums) >= 0 else -1
    merged = []
    for column, s in zip(columns, sums, strict=True):
        sign = 1 if s > 0 else -1 if s < 0 else {"plus": 1, "zero": 0, "majority": crowd}[tie]
        agreeing = [value for value in column if value * sign > 0]
        merged.append(math.fsum(agreeing) / len(agreeing) if agreeing else 0.0)
    return merged


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=1, max_size=6)),
    st.sampled_from(["plus", "zero", "majority"]),
)
def test_disjoint_mean_is_its_definition(columns: list[list[float]], tie: str) -> None:
    vectors = torch.tensor(columns, dtype=torch.float64).T
    merged = disjoint_mean(vectors, tie)  # type: ignore[arg-type]
    assert merged.tolist() == pytest.approx(slow_disjoint_mean(columns, tie), abs=1e-12)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_vectors_are_their_mean() -> None:
    v = normal(50)
    for tie in ("plus", "zero", "majority"):
        assert torch.allclose(disjoint_mean(torch.stack([v, v, v]), tie), v, atol=1e-12)  # type: ignore[arg-type]


def test_opposite_vectors_are_a_tie_everywhere() -> None:
    v = normal(50)
    both = torch.stack([v, -v])
    assert torch.equal(disjoint_mean(both, "zero"), torch.zeros(50, dtype=torch.float64))
    assert torch.equal(disjoint_mean(both, "plus"), v.abs())
    assert torch.equal(disjoint_mean(both, "majority"), v.abs())


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 1.0])
def test_trimming_keeps_the_largest(density: float) -> None:
    v = normal(7, 11)
    keep = keep_count(density, v.numel())
    kept = trim(v, magnitude_threshold(v, keep))
    order = v.abs().flatten().argsort(descending=True)
    assert set(kept.flatten().nonzero().flatten().tolist()) == set(order[:keep].tolist())
    assert torch.equal(kept[kept != 0], v[kept != 0])


def test_density_one_is_the_identity() -> None:
    v = normal(30)
    assert torch.equal(trim(v, magnitude_threshold(v, keep_count(1.0, 30))), v)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=True), min_size=1, max_size=8), min_size=1, max_size=4
    ),
    st.data(),
)
def test_streamed_threshold_equals_sorting(parts: list[list[float]], data: st.DataObject) -> None:
    tensors = [torch.tensor(part) for part in parts]
    magnitudes = torch.cat(tensors).abs().sort(descending=True).values
    keep = data.draw(st.integers(1, len(magnitudes)))
    assert streamed_threshold(lambda: tensors, keep) == float(magnitudes[keep - 1])


def test_dropping_keeps_the_expectation_and_the_rate() -> None:
    v = normal(40)
    draw = torch.Generator().manual_seed(1)
    many = torch.stack([drop(v, 0.7, draw) for _ in range(4000)])
    # The standard error of a mean over n draws is |v| sqrt(p / (1 - p) / n).
    error = (many.mean(0) - v).abs() / (v.abs() * math.sqrt(0.7 / 0.3 / 4000))
    assert float(error.max()) < 4.5
    assert float((many != 0).double().mean()) == pytest.approx(0.3, abs=0.005)
    assert torch.equal(drop(v, 0.0, draw), v)


def test_dropping_follows_the_generator_alone() -> None:
    v = normal(40)
    one, two = (drop(v, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    single = drop(v.float(), 0.5, torch.Generator().manual_seed(3))
    assert torch.equal(single != 0, one != 0)
    assert not torch.equal(drop(v, 0.5, torch.Generator().manual_seed(4)), one)
