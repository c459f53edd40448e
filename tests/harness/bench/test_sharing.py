"""How much several routers have in common is counted, and what follows from it is arithmetic."""

from __future__ import annotations

import pytest
import torch

from benchmarks.sharing import limit, shared
from methods.tiny import tiny_llama


def test_what_is_common_is_the_first_layers_projections() -> None:
    torch.manual_seed(0)
    model = tiny_llama()
    tokens, experts, rank = 16, 3, 4
    first, whole, step = shared(model, experts, rank, tokens)
    layer = model.model.layers[0].self_attn
    base = sum(one.in_features * one.out_features for one in (layer.q_proj, layer.k_proj, layer.v_proj))
    updates = sum(experts * rank * (one.in_features + one.out_features) for one in (layer.q_proj, layer.k_proj))
    assert tokens * (base + updates) < first < 3 * tokens * (base + updates)
    assert first < whole < step


@pytest.mark.parametrize(("common", "expected"), [(0.0, 1.0), (100.0, 6.0), (50.0, 6 / 3.5)])
def test_the_limit_is_one_without_anything_common_and_the_number_where_all_is(common: float, expected: float) -> None:
    assert limit(common, 100.0, 6) == pytest.approx(expected)


def test_more_variants_share_more_and_never_more_than_all_do() -> None:
    found = [limit(10.0, 100.0, n) for n in (1, 2, 6, 1000)]
    assert found == sorted(found)
    assert found[0] == 1.0
    assert found[-1] < 100.0 / 90.0
