"""Choosing the next token: the most likely one, or a draw that depends on the row alone and not on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from results.ground.errors import NotFinite


@dataclass(frozen=True)
class Sampling:
    """Draws from the softmax of logits divided by `temperature`, cut to `top_k` tokens and to mass `top_p`.

    `seed` and the step decide the draw, so a row's text does not depend on which rows are decoded beside it.
    """

    temperature: float
    seed: int
    top_p: float = 1.0
    top_k: int = 0


def next_tokens(logits: Tensor, sampling: Sequence[Sampling | None], steps: Sequence[int]) -> list[int]:
    """One token per row of `logits` `[n, vocabulary]`; None is greedy; `steps` counts each row's earlier tokens.

    Raises:
        NotFinite: a row's largest logit is not finite.
    """
    chosen = likeliest(logits)
    for i, how in enumerate(sampling):
        if how is not None:
            uniform = float(np.random.default_rng([how.seed, steps[i]]).random())
            chosen[i] = _draw(logits[i], how, uniform)
    return chosen


def likeliest(logits: Tensor) -> list[int]:
    """The most likely token of each row of `[n, vocabulary]`.

    Raises:
        NotFinite: a row's largest logit is not finite: any token would come first.
    """
    largest, chosen = logits.max(-1)
    if bad := int((~largest.isfinite()).sum()):
        raise NotFinite(
            f"The next token of {bad} of {len(logits)} texts has no finite probability: weights or activations "
            "overflow, so lower the learning rates that made them, or compute in another model.dtype."
        )
    found: list[int] = chosen.tolist()
    return found


def _draw(logits: Tensor, how: Sampling, uniform: float) -> int:
    """Invert the cumulative distribution over tokens by falling probability at `uniform` in [0, 1)."""
    probabilities, order = (logits.double() / how.temperature).softmax(-1).sort(descending=True, stable=True)
    if how.top_k:
        probabilities, order = probabilities[: how.top_k], order[: how.top_k]
    cumulative = probabilities.cumsum(-1) / probabilities.sum()
    # A token stays while the mass before it is below top_p, so the first one always does.
    kept = int((cumulative - probabilities / probabilities.sum() < how.top_p).sum())
    cumulative = cumulative[:kept] / cumulative[kept - 1]
    at = int(
        torch.searchsorted(cumulative, torch.tensor(uniform, dtype=torch.float64, device=logits.device), right=True)
    )
    return int(order[min(at, kept - 1)])
