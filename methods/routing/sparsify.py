"""From router logits to the weights that are really applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sparsifier:
    """Keeps the `k` largest logits of each token.

    Attributes:
        train_k: experts kept in training passes; None keeps all.
        eval_k: experts kept otherwise; None keeps all.
        renorm: `sum` divides by the kept mass, which equals a softmax over the kept logits; `none` keeps p as it is,
            so the weights sum to the kept mass.
        threshold: outside training, keep the experts with N p above it instead of `eval_k`; below 1, so that the
            largest is always kept.
        straight_through: in training, weights are those of `renorm` and their gradient is that of p. Without it the one
            weight that top-1 keeps under `sum` is 1 whatever the logits, and has no gradient.
    """

    of_softmax: ClassVar[bool] = True
    """Whether the router's belief in an expert is its softmax probability; else the weights say it."""

    train_k: int | None
    eval_k: int | None
    renorm: Literal["sum", "none"] = "sum"
    threshold: float | None = None
    straight_through: bool = False

    def __call__(self, logits: Tensor, training: bool) -> Tensor:
        """Weights `[..., N]` of logits `[..., N]`; unselected experts get exactly 0 and no gradient under `sum`."""
        if self.threshold is not None and not training:
            p = logits.softmax(-1)
            kept_p = torch.where(p * p.shape[-1] > self.threshold, p, 0.0)
            return kept_p / kept_p.sum(-1, keepdim=True) if self.renorm == "sum" else kept_p
        k = self.train_k if training else self.eval_k
        if k is None or k >= logits.shape[-1]:
            return logits.softmax(-1)
        kept, index = logits.topk(k, dim=-1)
        values = kept.softmax(-1) if self.renorm == "sum" else logits.softmax(-1).gather(-1, index)
        if training and self.straight_through:
            p = logits.softmax(-1).gather(-1, index)
            values = values.detach() + (p - p.detach())
        weights = torch.zeros_like(logits)
        return weights.scatter(-1, index, values) if values.requires_grad else weights.scatter_(-1, index, values)

    def most(self, n_experts: int, training: bool) -> int:
        """How many of N experts can get weight at once."""
        k = self.train_k if training else self.eval_k if self.threshold is None else None
        return n_experts if k is None else min(k, n_experts)


DENSE = Sparsifier(None, None)
