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


def poisson_shape(rate: Tensor, n: int) -> Tensor:
    """Falling shares rate^i / i! over i = 1..n, normalised, `[..., n]` (GMoE, arXiv 2412.16216): how sharply one token
    should tell experts apart."""
    i = torch.arange(1, n + 1, dtype=rate.dtype, device=rate.device)
    shares = (i * rate.log().unsqueeze(-1) - torch.lgamma(i + 1)).softmax(-1)
    return shares.sort(-1, descending=True).values


def normal_shape(width: Tensor, n: int) -> Tensor:
    """Falling shares exp(-(i - n/2)^2 / 2 width^2) over i = 1..n, normalised, `[..., n]` (GMoE): how load should spread
    over experts. It is a fixed shape, not equal load."""
    i = torch.arange(1, n + 1, dtype=width.dtype, device=width.device)
    shares = (-(i - n / 2).square() / (2 * width.square().unsqueeze(-1))).softmax(-1)
    return shares.sort(-1, descending=True).values


def shape_divergence(shape: Tensor, log_q: Tensor) -> Tensor:
    """KL(shape || q) with q sorted to fall, whichever expert is which; 0 if and only if the sorted q is the shape.

    Args:
        shape: `[..., N]`, falling.
        log_q: logarithms, `[..., N]`.
    """
    return (torch.xlogy(shape, shape) - shape * log_q.sort(-1, descending=True).values).sum(-1)


def load_divergence(shape: Tensor, load: Tensor) -> Tensor:
    """`shape_divergence` of mean loads `[..., N]`, in which experts of equal load share the targets of their ranks.

    Sharing changes no value. It makes the gradient at ties independent of the experts' order, and constant, hence no
    gradient for logits, where all loads are equal. Loads below 1e-6 count as 1e-6.
    """
    rank = load.argsort(-1, descending=True).argsort(-1)
    target = shape.expand(load.shape).gather(-1, rank)
    ties = (load.unsqueeze(-1) == load.unsqueeze(-2)).to(target.dtype)
    target = (ties @ target.unsqueeze(-1)).squeeze(-1) / ties.sum(-1)
    return (torch.xlogy(shape, shape) - target * load.clamp(min=1e-6).log()).sum(-1)


def preserve(parameters: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of squared distances of parameters from their reference values (LoRA-Mixer Eq. 11, without beta)."""
    # Parameters of one model may be on several devices.
    each = [(now - reference).square().sum() for now, reference in parameters]
    return torch.stack([one.to(each[0].device) for one in each]).sum()


def ramp(progress: float, warmup_frac: float, shape: str = "linear") -> float:
    """Warm-up multiplier: 0 at the start, 1 from `warmup_frac` of the optimiser steps on, monotone between."""
    if warmup_frac <= 0 or progress >= warmup_frac:
        return 1.0
    linear = progress / warmup_frac
    return linear if shape == "linear" else (1 - math.cos(math.pi * linear)) / 2
