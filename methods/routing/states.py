"""How many tokens a cache of recurrent states has taken in, which it does not count itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from methods.routing.context import RoutingContext
from methods.routing.mamba import is_state_space
from methods.routing.passes import PassHook

_NOTE = "_seen_while_routed"


class Seen(NamedTuple):
    """What a cache has taken in: columns of the batch, and tokens that are no padding, `[b]`."""

    length: int
    tokens: Tensor


class StateCounts:
    """Tells the context of a state-space model how far a sequence is, by a note on the cache; idle on other models.

    A step of generation brings neither positions nor a mask: left padding is known from the prompt's pass alone. It
    follows `PassHook`, which has already said what does not depend on a cache.
    """

    def __init__(self, model: nn.Module, context: RoutingContext, hook: PassHook) -> None:
        self.context = context
        self._handles: list[Any] = []
        if is_state_space(getattr(model, "config", None)):
            inner: nn.Module = getattr(model, "base_model", model)
            hook.follow.append(self._before)
            self._handles.append(inner.register_forward_hook(self._after, with_kwargs=True))

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count on from what the cache has seen.

        Raises:
            RuntimeError: it was filled while no method was installed.
        """
        cache, context = kwargs.get("cache_params"), self.context
        if cache is None or not cache.has_previous_state():
            return
        seen: Seen | None = getattr(cache, _NOTE, None)
        if seen is None:
            raise RuntimeError("A cache that was filled without the method cannot be continued with it: pass the text.")
        new = self._real(args, kwargs)
        context.past_length = seen.length
        context.position_ids = (seen.tokens[:, None] + new.cumsum(1) - 1).clamp(min=0)

    def _after(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        cache = kwargs.get("cache_params")
        cache = getattr(output, "cache_params", None) if cache is None else cache
        if cache is None:
            return
        new = self._real(args, kwargs)
        tokens = new.sum(1)
        if self.context.past_length:
            tokens = tokens + getattr(cache, _NOTE).tokens
        setattr(cache, _NOTE, Seen(self.context.past_length + new.shape[1], tokens))

    def _real(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """`[b, t]`, 1 where this pass has a token."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        given: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
        mask = self.context.token_mask
        return torch.ones(given.shape[:2], dtype=torch.long, device=given.device) if mask is None else mask.long()
