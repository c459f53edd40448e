"""A second, slow implementation of routed layers: loops over experts, nothing shared, nothing fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.base import Expert, SiteFactors
from methods.tiny import tiny_batch, tiny_llama

Weigh = Callable[[str, Tensor, list[Tensor]], Tensor]
"""(site, x `[b, t, d_in]`, each expert's update `[b, t, d_out]`) to weights `[b, t, N]`."""


class NaiveSite(nn.Module):
    """`W x + sum_n w_n s_n B_n (A_n x)`, one expert after the other."""

    def __init__(self, path: str, base: nn.Linear, factors: Sequence[SiteFactors | None], weigh: Weigh) -> None:
        super().__init__()
        self.path, self.base, self.factors, self.weigh = path, base, factors, weigh

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        deltas = [torch.zeros_like(y) if f is None else f.scale * ((x @ f.A.T) @ f.B.T) for f in self.factors]
        w = self.weigh(self.path, x, deltas)
        for n, delta in enumerate(deltas):
            y = y + w[..., n : n + 1] * delta
        return y


def naive_model(experts: Sequence[Expert], weigh: Weigh, dtype: torch.dtype = torch.float64) -> Any:
    """A tiny Llama with naive sites wherever an expert has factors."""
    model = tiny_llama(dtype=dtype)
    for path in {site for expert in experts for site in expert.sites}:
        parent, _, leaf = path.rpartition(".")
        base = model.get_submodule(path)
        site = NaiveSite(path, base, [expert.sites.get(path) for expert in experts], weigh)
        setattr(model.get_submodule(parent), leaf, site)
    return model


def naive_topk(p: Tensor, k: int, renorm: str = "sum") -> Tensor:
    """Keep the k largest of each row, by sorting."""
    kept = torch.zeros_like(p)
    flat, out = p.reshape(-1, p.shape[-1]), kept.view(-1, p.shape[-1])
    for row, target in zip(flat, out, strict=True):
        for index in row.argsort(descending=True)[:k].tolist():
            target[index] = row[index]
    return kept / kept.sum(-1, keepdim=True) if renorm == "sum" else kept


def logits_of(model: nn.Module, **changes: Any) -> Tensor:
    """Logits of the usual batch, without gradients."""
    batch = tiny_batch()
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **changes).logits


@pytest.fixture
def naive() -> Callable[..., Any]:
    return naive_model


@pytest.fixture
def topk() -> Callable[..., Tensor]:
    return naive_topk


@pytest.fixture
def logits() -> Callable[..., Tensor]:
    return logits_of
