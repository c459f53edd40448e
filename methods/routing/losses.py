"""The loss zoo of routing as functions of distributions and of their means. All logarithms are natural.

Shapes: `p` and `w` are `[..., N]` per token, means `pbar`, `fbar` are `[..., N]` over tokens; every function reduces
the last dimension only, so routers can be stacked in front.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """H(p) in nats; 0 log 0 is 0. Its gradient with respect to logits is -p_i (log p_i + H)."""
    return torch.special.entr(p).sum(-1)


def entropy_of_logits(logits: Tensor) -> Tensor:
    """H(softmax(logits)), with gradients that stay finite where a probability underflows."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def balance(pbar: Tensor, fbar: Tensor) -> Tensor:
    """sum_i pbar_i fbar_i (Switch Transformer Eq. 4 without its factor N; LoRA-Mixer Eq. 3)."""
    return (pbar * fbar).sum(-1)


def negative_entropy(pbar: Tensor) -> Tensor:
    """-H(pbar): the spreading half of mutual information."""
    return -entropy(pbar)


def squared_cv(load: Tensor) -> Tensor:
    """Var(load)/Mean(load)^2 over experts, population variance; unchanged by scaling all loads."""
    return load.var(-1, correction=0) / load.mean(-1).square()


def logsumexp_squared(logits: Tensor) -> Tensor:
    """The z-loss of one token, logsumexp(logits)^2 (ST-MoE, arXiv 2202.08906)."""
    return logits.logsumexp(-1).square()


def negative_log_product(q: Tensor) -> Tensor:
    """-sum_i log q_i (MoLE's L_bal, arXiv 2404.13628): N ln N at uniform q, larger elsewhere."""
    return -q.log().sum(-1)


def preserve(parameters: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of squared distances of parameters from their reference values (LoRA-Mixer Eq. 11, without beta)."""
    return torch.stack([(now - reference).square().sum() for now, reference in parameters]).sum()


def ramp(progress: float, warmup_frac: float, shape: str = "linear") -> float:
    """Warm-up multiplier: 0 at the start, 1 from `warmup_frac` of the optimiser steps on, monotone between."""
    if warmup_frac <= 0 or progress >= warmup_frac:
        return 1.0
    linear = progress / warmup_frac
    return linear if shape == "linear" else (1 - math.cos(math.pi * linear)) / 2
