"""What routers did on evaluated tokens, as running sums that cost nothing while nobody asks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Accumulator:
    """Sums over tokens of K routers, in float64; padding is left out."""

    def __init__(self, n_routers: int, n_experts: int) -> None:
        self.shape = (n_routers, n_experts)
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        self.sums: dict[str, Tensor] = {}
        self.tokens: Tensor | None = None

    def add(self, logits: Tensor, w: Tensor, initial: Tensor | None, mask: Tensor | None) -> None:
        """Add the tokens of one pass.

        Args:
            logits: `[b, t, K, N]`.
            w: applied weights, `[b, t, K, N]`.
            initial: logits of the untrained routers, `[b, t, K, N]`; None when nothing is trained.
            mask: `[b, t]` booleans of the tokens that count; None counts all.
        """
        K, N = self.shape
        start = logits if initial is None else initial
        logits, w, start = (part.expand(*w.shape[:2], K, N).flatten(0, 1) for part in (logits, w, start))
        if mask is not None:
            keep = mask.flatten()
            logits, w, start = logits[keep], w[keep], start[keep]
        log_p = logits.log_softmax(-1)
        p = log_p.exp()
        parts = {
            "p": p,
            "p_squared": p.square(),
            "w": w,
            "entropy": -p * log_p.clamp(min=torch.finfo(p.dtype).min),
            "kept": torch.where(w > 0, p, 0.0),
            "shift": (logits - start).abs(),
            "start": start,
            "start_squared": start.double().square(),
        }
        for name, value in parts.items():
            total = value.double().sum(0)
            self.sums[name] = self.sums[name] + total if name in self.sums else total
        count = torch.tensor(float(len(w)), dtype=torch.float64, device=w.device)
        self.tokens = count if self.tokens is None else self.tokens + count

    def summary(self, own: int | None) -> dict[str, Tensor] | None:
        """Per router: `load` `[K, N]`, the other fields `[K]`; None without tokens."""
        if self.tokens is None or not bool(self.tokens > 0):
            return None
        mean = {name: total / self.tokens for name, total in self.sums.items()}
        start_variance = (mean["start_squared"] - mean["start"].square()).clamp(min=0).mean(-1)
        fields = {
            "load": mean["w"],
            "entropy": mean["entropy"].sum(-1) / math.log(max(self.shape[1], 2)),
            "variance": (mean["p_squared"] - mean["p"].square()).clamp(min=0).sum(-1),
            "kept_mass": mean["kept"].sum(-1),
            "logit_shift": mean["shift"].mean(-1),
            "logit_std_initial": start_variance.sqrt(),
        }
        if own is not None:
            fields["own_expert_mass"] = mean["p"][:, own]
        return fields


def summarise(
    experts: Sequence[str],
    names: Sequence[str],
    accumulators: Sequence[Accumulator],
    own: int | None,
) -> dict[str, Any] | None:
    """Diagnostics of all routers with exactly the fields of a record; None when no token was seen.

    Args:
        experts: names of the pool.
        names: names of all routers, in the accumulators' order.
        accumulators: their sums.
        own: index of the task's own expert, or None.
    """
    parts = [part for part in (a.summary(own) for a in accumulators) if part is not None]
    if len(parts) != len(accumulators) or not parts:
        return None
    stacked = {field: torch.cat([part[field].cpu() for part in parts]) for field in parts[0]}
    per_module: dict[str, list[Any]] = {field: values.tolist() for field, values in stacked.items()}
    overall: dict[str, Any] = {field: values.mean(0).tolist() for field, values in stacked.items()}
    if own is None:
        per_module["own_expert_mass"] = [None] * len(names)
        overall["own_expert_mass"] = None
    return {"experts": list(experts), "modules": list(names), **overall, "per_module": per_module}
