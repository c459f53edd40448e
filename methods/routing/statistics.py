"""Means of routing over tokens, and where balance losses take them from.

A balance loss needs mean probabilities over *the data*. Taken over a micro-batch of one sequence they are means over
one task, and perfect routing by domain looks like the worst imbalance. So losses that are not plain means over tokens
are replaced by their first-order expansion at detached means from elsewhere: running means over past windows (`ema`) or
the window's own from an extra pass (`accum`). The expansion is linear in the micro-batch, so every micro-batch of a
window contributes its share of one gradient however the window is cut. `microbatch` takes the loss literally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.routing.config import StatisticsConfig
from methods.routing.router import Record
from methods.routing.sides import SideCounts

FMode = str


@dataclass
class RoutingBatch:
    """One training pass of all routers.

    Attributes:
        records: one for each group of routers, in a fixed order; G routers in all.
        mask: `[b, t]` booleans of counted tokens; None counts all.
        sides: counted tokens of an encoder-decoder model, in which each record has its own side's; None in others.
    """

    records: Sequence[Record]
    mask: Tensor | None
    sides: SideCounts | None = None
    _shares: dict[torch.dtype, Tensor] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def tokens(self) -> Tensor:
        """Number of counted tokens, a scalar; of both sides together where there are two."""
        if self.sides is not None:
            return self.sides.tokens
        if self.mask is not None:
            return self.mask.sum()
        return torch.tensor(self.records[0].w.shape[:2].numel(), device=self.records[0].w.device)

    def mean(self, of: Callable[[Record], Tensor]) -> Tensor:
        """Mean over counted tokens of a function of records with values `[b, t, K, ...]`: `[G, ...]`."""
        return self.average((of(record), record.encoder) for record in self.records)

    def average(self, parts: Iterable[tuple[Tensor, bool]]) -> Tensor:
        """Mean over counted tokens of values, next to each other: `[sum of K, ...]`.

        Args:
            parts: values `[b, t, K, ...]` each, and whether they are at the encoder's tokens.
        """
        means = []
        for values, encoder in parts:
            if self.sides is not None:
                weights = self.sides.weights(encoder, values.dtype)
                means.append(torch.tensordot(weights, values, dims=([0, 1], [0, 1])))
            elif self.mask is None:
                means.append(values.mean((0, 1)))
            else:
                means.append(torch.tensordot(self._weights(values.dtype), values, dims=([0, 1], [0, 1])))
        return torch.cat(means)

    def _weights(self, dtype: torch.dtype) -> Tensor:
        """Each token's share `[b, t]` of a mean over counted tokens; one for all records, which are many."""
        assert self.mask is not None
        if dtype not in self._shares:
            self._shares[dtype] = self.mask.to(dtype) / self.tokens.clamp(min=1)
        return self._shares[dtype]

    @cached_property
    def pbar(self) -> Tensor:
        """Mean routing distribution `[G, N]`, with graph."""
        return self.mean(lambda record: record.logits.softmax(-1))

    def fbar(self, mode: FMode) -> Tensor:
        """Mean `[G, N]` of what a balance loss counts as load; sums to 1 over experts in every mode.

        `topk_score`: weights normalised over the kept experts; `top1_freq`: share of tokens whose largest weight it
        is; `topk_freq`: share of picks; `mean_prob`: pbar.
        """
        if mode == "mean_prob":
            return self.pbar
        return self.mean(lambda record: _load(record.w, mode))


def _load(w: Tensor, mode: FMode) -> Tensor:
    if mode == "topk_score":
        return w / w.sum(-1, keepdim=True)
    if mode == "top1_freq":
        return F.one_hot(w.argmax(-1), w.shape[-1]).to(w.dtype)
    picks = (w > 0).to(w.dtype)
    return picks / picks.sum(-1, keepdim=True)


def expand_at(loss: Callable[[Tensor], Tensor], means: Tensor, point: Tensor | None) -> Tensor:
    """First-order expansion of `loss` at a constant point, evaluated at `means`.

    Args:
        loss: from `[..., N]` to `[...]`.
        means: `[..., N]` with graph.
        point: `[..., N]`; None evaluates the loss itself.
    """
    if point is None:
        return loss(means)
    with torch.enable_grad():
        anchor = point.detach().requires_grad_()
        value = loss(anchor)
        (slope,) = torch.autograd.grad(value.sum(), anchor)
    return value.detach() + ((means - anchor.detach()) * slope).sum(-1)


class BalanceStatistics:
    """Detached means of G routers over N experts, by the scope that the configuration asks for.

    `ema`: decay per optimiser step, bias-corrected; within a window nothing moves. Before the first window ends there
    is no history and the means are the uniform 1/N, at which every balance loss of this package is flat or constant.
    `accum`: the window's means, gathered by a pass without gradients. `microbatch`: none.
    """

    def __init__(self, n_routers: int, n_experts: int, config: StatisticsConfig, like: Tensor) -> None:
        self.config = config
        shape = (2, n_routers, n_experts)
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        self._running = torch.zeros(shape, dtype=dtype, device=like.device)
        self._windows = torch.zeros((), dtype=torch.long)
        self._sums = torch.zeros_like(self._running)
        self._tokens = torch.zeros((), dtype=dtype, device=like.device)
        self._window_means: Tensor | None = None

    def observe(self, pbar: Tensor, fbar: Tensor, tokens: Tensor) -> None:
        """Add a micro-batch's means `[G, N]` over `tokens` tokens to the window; see `AuxiliaryLoss.means`."""
        self._sums += torch.stack([pbar.detach(), fbar.detach()]) * tokens
        self._tokens += tokens

    def point(self) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Means of p and f `[G, N]` at which losses are expanded; None under `microbatch`.

        Raises:
            RuntimeError: `accum` without the pass that gathers the window's means.
        """
        if self.config.stats_scope == "microbatch":
            return None, None
        if self.config.stats_scope == "accum":
            if self._window_means is None:
                raise RuntimeError("stats_scope=accum needs a pass over the window before training on it.")
            pbar, fbar = self._window_means
        elif self._windows == 0:
            pbar = fbar = torch.full_like(self._running[0], 1 / self._running.shape[-1])
        else:
            pbar, fbar = self._running / (1 - self.config.ema_decay ** int(self._windows))
        return pbar, fbar

    def end_pass(self) -> None:
        """Fix the window's means (`accum`)."""
        self._window_means = self._sums / self._tokens
        self._forget()

    def end_window(self) -> None:
        """Take the window into the running means."""
        if self._tokens > 0 and self.config.stats_scope == "ema":
            self._running.lerp_(self._sums / self._tokens, 1 - self.config.ema_decay)
            self._windows += 1
        self._window_means = None
        self._forget()

    def _forget(self) -> None:
        self._sums.zero_()
        self._tokens.zero_()

    def state(self) -> dict[str, Tensor]:
        """Running means and the number of windows behind them."""
        return {"statistics.means": self._running.clone(), "statistics.windows": self._windows.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self._running.copy_(state["statistics.means"])
        self._windows.copy_(state["statistics.windows"])
