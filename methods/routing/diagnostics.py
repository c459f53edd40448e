"""What routers did on evaluated tokens, as running sums that cost nothing while nobody asks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from methods.routing.context import RoutingContext

_SUMS = ("p", "p_squared", "w", "share", "shared", "entropy", "kept", "shift", "start", "start_squared")
_CHUNK = 1 << 22
"""Values that are reduced at once: few operations for one token, bounded memory for many."""


@dataclass(frozen=True)
class Observation:
    """One pass of K routers.

    Attributes:
        logits: `[b, t, K, N]`.
        w: applied weights, `[b, t, K, N]`.
        start: logits of the untrained routers, `[b, t, K, N]`; None where nothing is trained.
        encoder: whether the tokens are those of an encoder-decoder model's encoder.
        of_softmax: whether an expert's share of a token is its softmax probability; else its part of the weights.
    """

    logits: Tensor
    w: Tensor
    start: Tensor | None
    encoder: bool = False
    of_softmax: bool = True


class Observed(Protocol):
    """K routers that leave an observation after each pass."""

    names: tuple[str, ...]
    observed: Observation | None


class Collector:
    """Sums over tokens of all routers of a model, in float64; padding is left out.

    Routers only keep what they have computed; the sums are taken over all of them at once, before the next pass or when
    somebody reads.
    """

    def __init__(self, routers: Sequence[Observed], context: RoutingContext) -> None:
        self.routers = tuple(routers)
        self.context = context
        self.names = [name for router in routers for name in router.names]
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        for router in self.routers:
            router.observed = None
        self._sums: Tensor | None = None
        self._tokens = torch.zeros(len(self.names), 1, dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        """Sums and numbers of tokens so far, on the CPU."""
        self.clear()
        sums = {} if self._sums is None else {"sums": self._sums.cpu().clone()}
        return sums | {"tokens": self._tokens.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.reset()
        self._tokens = state["tokens"].clone()
        if "sums" in state:
            self._sums = state["sums"].clone()

    def clear(self) -> None:
        """Take in the previous pass."""
        first = 0
        for chunk in self._chunks():
            observations = [router.observed for router in chunk if router.observed is not None]
            self._add(first, observations)
            first += sum(len(router.names) for router in chunk)
            for router in chunk:
                router.observed = None

    def _chunks(self) -> Iterator[list[Observed]]:
        """Routers in order, those with passes over the same tokens together, or those without a pass."""
        chunk: list[Observed] = []
        size = 0
        for router in self.routers:
            seen = router.observed
            if chunk and (_tokens(seen) != _tokens(chunk[-1].observed) or size > _CHUNK):
                yield chunk
                chunk, size = [], 0
            chunk.append(router)
            size += 0 if seen is None else seen.w.numel()
        if chunk:
            yield chunk

    def _add(self, first: int, observations: Sequence[Observation]) -> None:
        if not observations:
            return
        parts = [
            (seen.logits, seen.w.expand(seen.logits.shape), seen.logits if seen.start is None else seen.start)
            for seen in observations
        ]
        # Routers of one chunk may have been on several devices.
        home = self.context.device or parts[0][0].device
        logits, w, start = (
            torch.cat([one.to(home) for one in column], -2).flatten(0, 1) for column in zip(*parts, strict=True)
        )
        side = self.context.encoder if observations[0].encoder else self.context
        mask = None if side is None else side.token_mask
        if mask is not None and mask.shape == observations[0].logits.shape[:2]:
            keep = mask.flatten()
            logits, w, start = logits[keep], w[keep], start[keep]
        log_p = logits.log_softmax(-1)
        p = log_p.exp()
        share, shared = _shares(p, w, [seen.of_softmax for seen in observations for _ in range(seen.logits.shape[-2])])
        values = {
            "p": p,
            "p_squared": p.square(),
            "w": w,
            "share": share,
            "shared": shared,
            "entropy": -p * log_p.clamp(min=torch.finfo(p.dtype).min),
            "kept": p * (w > 0),
            "shift": (logits - start).abs_(),
            "start": start,
            "start_squared": start.square(),
        }
        totals = torch.stack([values[name].sum(0, dtype=torch.float64) for name in _SUMS])
        if self._sums is None:
            self._sums = totals.new_zeros(len(_SUMS), len(self.names), totals.shape[-1])
        self._sums = self._sums.to(totals.device)  # what an earlier process has summed comes from a file
        rows = slice(first, first + totals.shape[1])
        self._sums[:, rows] += totals
        self._tokens[rows] += len(logits)

    def summary(self, experts: Sequence[str], own: int | None) -> dict[str, Any] | None:
        """Diagnostics of all routers with exactly the fields of a record; None when a router saw no token.

        Args:
            experts: names of the pool.
            own: index of the task's own expert, or None.
        """
        self.clear()
        if self._sums is None or not bool((self._tokens > 0).all()):
            return None
        mean = dict(zip(_SUMS, self._sums.cpu() / self._tokens, strict=True))
        masses = (
            []
            if own is None
            else [_ratio(share, of) for share, of in zip(mean["share"][:, own], mean["shared"][:, own], strict=True)]
        )
        found = [mass for mass in masses if mass is not None]
        start_variance = (mean["start_squared"] - mean["start"].square()).clamp(min=0).mean(-1)
        fields = {
            "load": mean["w"],
            "entropy": mean["entropy"].sum(-1) / math.log(max(len(experts), 2)),
            "variance": (mean["p_squared"] - mean["p"].square()).clamp(min=0).sum(-1),
            "kept_mass": mean["kept"].sum(-1),
            "logit_shift": mean["shift"].mean(-1),
            "logit_std_initial": start_variance.sqrt(),
        }
        per_module: dict[str, list[Any]] = {field: values.tolist() for field, values in fields.items()}
        overall: dict[str, Any] = {field: values.mean(0).tolist() for field, values in fields.items()}
        per_module["own_expert_mass"] = masses or [None] * len(self.names)
        overall["own_expert_mass"] = sum(found) / len(found) if found else None
        return {"experts": list(experts), "modules": self.names, **overall, "per_module": per_module}


def _shares(p: Tensor, w: Tensor, of_softmax: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Each expert's share of each token, and 1 where the token has shares: one that keeps nothing has none.

    Args:
        p: softmax probabilities `[tokens, R, N]`.
        w: applied weights, likewise.
        of_softmax: of each of the R routers, whether p is its share; else it is its part of the weights.
    """
    if all(of_softmax):
        return p, torch.ones_like(p)
    kept = w.sum(-1, keepdim=True)
    softmax = torch.tensor(of_softmax, device=p.device)[:, None]
    share = torch.where(softmax, p, torch.where(kept > 0, w / kept, 0.0))
    return share, (softmax | (kept > 0)).to(p.dtype).expand(p.shape)


def _ratio(share: Tensor, shared: Tensor) -> float | None:
    """Mean share over the tokens that have one."""
    return (share / shared).item() if shared > 0 else None


def _tokens(seen: Observation | None) -> tuple[torch.Size, bool] | None:
    """Which tokens a pass was over."""
    return None if seen is None else (seen.w.shape[:2], seen.encoder)
