"""Stacked LoRA factors of all experts at one site: frozen and prepared once, or trainable."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import SiteFactors

R = TypeVar("R")
MakeFactors = Callable[[Sequence["SiteFactors | None"], Tensor], "TrainableFactors"]
"""Trained factors from initial ones of a site's experts, and the frozen weight."""


def shrunk(x: Tensor, A: Tensor, n: int, dropout: float, *, each: bool) -> Tensor:
    """Shrunk inputs `x A^T` of n experts whose A lie below each other, `[..., N * r]`, in training.

    Args:
        x: input `[..., d_in]`.
        A: `[N * r, d_in]`.
        n: N.
        dropout: on the input of A.
        each: whether every expert has a mask of its own, instead of one for all.
    """
    if not (each and dropout):
        return F.linear(F.dropout(x, dropout), A)
    return torch.cat([F.linear(F.dropout(x, dropout), block) for block in A.chunk(n)], -1)


def stacked_A(factors: Sequence[SiteFactors | None], rank: int, like: Tensor) -> Tensor:
    """A of all experts `[N * rank, d_in]`, ranks padded with zero rows, missing experts zero, in the type of `like`.

    `like` is the frozen weight `[d_out, d_in]`.
    """
    stacked = torch.zeros(len(factors), rank, like.shape[1], dtype=like.dtype, device=like.device)
    if stacked.is_meta:  # only shapes are counted, and torch takes a tenth of a millisecond for that of each product
        return stacked.flatten(0, 1)
    for block, factor in zip(stacked, factors, strict=True):
        if factor is not None:
            block[: factor.A.shape[0]] = factor.A
    return stacked.flatten(0, 1)


def stacked_B(
    factors: Sequence[SiteFactors | None], rank: int, like: Tensor, weights: Sequence[float] | None = None
) -> Tensor:
    """`(weight * scale * B)^T` of all experts, `[N * rank, d_out]`, rounded once to the type of `like`.

    Products of a few tokens are up to twice as fast in this layout as in the transposed one.
    """
    stacked = torch.zeros(len(factors), rank, like.shape[0], dtype=like.dtype, device=like.device)
    if stacked.is_meta:  # see `stacked_A`
        return stacked.flatten(0, 1)
    for index, factor in enumerate(factors):
        if factor is not None:
            wide = torch.promote_types(torch.promote_types(factor.B.dtype, like.dtype), torch.float32)
            scale = factor.scale * (1.0 if weights is None else weights[index])
            stacked[index, : factor.B.shape[1]] = (factor.B.to(wide) * scale).t()
    return stacked.flatten(0, 1)


class Kept:
    """The latest result of a computation on parameters, kept while they stay as they are and nobody differentiates.

    Evaluation would otherwise stack the factors of trained experts anew for every token.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._result: Any = None

    def get(self, parameters: Iterable[Tensor], about: Hashable, make: Callable[[], R]) -> R:
        """`make()`, or what it gave last time for unchanged parameters.

        Args:
            parameters: what the result is made of.
            about: what else it depends on.
            make: the computation.
        """
        if torch.is_grad_enabled():
            self._key = self._result = None
            return make()
        key = (about, tuple((p._version, p.data_ptr()) for p in parameters))
        if key != self._key:
            self._key, self._result = key, make()
        kept: R = self._result
        return kept


class TrainableFactors(nn.Module):
    """Factors of experts that are trained: one pair of parameters each, so that an idle expert gets no gradient.

    Optimisers skip a parameter without a gradient; a zero gradient would still decay its moments and apply weight
    decay. Parameters are float32 at least, whatever the base's type.
    """

    def __init__(self, factors: Sequence[SiteFactors | None], like: Tensor) -> None:
        super().__init__()
        dtype = torch.promote_types(like.dtype, torch.float32)
        present = [factor for factor in factors if factor is not None]
        self.rank = max(factor.A.shape[0] for factor in present)
        self.slots = [None if f is None else i for i, f in zip(_counter(factors), factors, strict=True)]
        self.scales = [0.0 if factor is None else factor.scale for factor in factors]
        self.A = nn.ParameterList(f.A.detach().to(like.device, dtype, copy=True) for f in present)
        self.B = nn.ParameterList(f.B.detach().to(like.device, dtype, copy=True) for f in present)
        self.shape = like.shape
        self._kept = Kept()

    def stacked(self, experts: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A `[n * rank, d_in]` and `scale * B` `[d_out, n * rank]` of the chosen experts, with graph."""
        chosen = tuple(experts)
        return self._kept.get((*self.A, *self.B), (chosen, dtype), lambda: self._stack(chosen, dtype))

    def always(self, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """A `[m, d_in]` and B `[d_out, m]` of an update that every token gets whatever its weights; None without."""
        return None

    def _stack(self, experts: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        rows, columns = [], []
        for expert in experts:
            slot = self.slots[expert]
            if slot is None:
                rows.append(self.A[0].new_zeros(self.rank, self.shape[1]))
                columns.append(self.B[0].new_zeros(self.shape[0], self.rank))
                continue
            A, B = self.A[slot], self.B[slot] * self.scales[expert]
            if missing := self.rank - A.shape[0]:
                A, B = F.pad(A, (0, 0, 0, missing)), F.pad(B, (0, missing))
            rows.append(A)
            columns.append(B)
        return torch.cat(rows).to(dtype), torch.cat(columns, 1).to(dtype)

    def expert(self, index: int) -> SiteFactors | None:
        """A detached copy of one expert's factors, or None where it has none."""
        slot = self.slots[index]
        if slot is None:
            return None
        return SiteFactors(self.A[slot].detach().clone(), self.B[slot].detach().clone(), self.scales[index])


def _counter(factors: Sequence[SiteFactors | None]) -> list[int]:
    """Position of each expert among those that are present."""
    positions, seen = [], 0
    for factor in factors:
        positions.append(seen)
        seen += factor is not None
    return positions
