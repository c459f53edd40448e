"""The hook that says what a forward pass is before its layers run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from methods.routing.context import RoutingContext
from methods.routing.sides import EncoderSide
from methods.routing.tokens import token_stacks

Follow = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
"""What follows on the hook, with the arguments of the module that a pass enters."""


class PassHook:
    """Runs before each forward pass of a model: fills the context and lets layers forget the previous pass.

    It sits on the modules below the language-model head that hold the token embeddings; the outermost that a pass
    enters fills the context. In encoder-decoder models, whose generation calls encoder and decoder by themselves, it
    sits on both: a pass begins with the encoder, and every pass of the decoder leaves what the encoder's routers keep.

    Attributes:
        follow: called in order after the context has been filled, in decoder-only models.
    """

    def __init__(self, model: nn.Module, context: RoutingContext, clear: Iterable[Any]) -> None:
        self.context = context
        self.clear = tuple(clear)
        self.follow: list[Follow] = []
        self._depth = 0
        self._handles: list[Any] = []
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            context.encoder = context.encoder or EncoderSide(context)
            whole: Any = model
            for stack, hook in (
                (whole.get_encoder(), self._before_encoder),
                (whole.get_decoder(), self._before_decoder),
            ):
                self._handles.append(stack.register_forward_pre_hook(hook, with_kwargs=True))
            return
        stacks = token_stacks(model)
        if model not in stacks:
            self._handles.append(model.register_forward_pre_hook(self._expect))
        for stack in stacks:
            self._handles.append(stack.register_forward_pre_hook(self._enter, with_kwargs=True))
            self._handles.append(stack.register_forward_hook(self._leave, always_call=True))

    def remove(self) -> None:
        """Take the hook off."""
        for handle in self._handles:
            handle.remove()

    def _expect(self, _module: nn.Module, _args: tuple[Any, ...]) -> None:
        self.context.entered = False
        self._depth = 0  # an interrupted pass has not left its stacks

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth += 1
        if self._depth == 1:
            self._before(module, args, kwargs)
            for follow in self.follow:
                follow(module, args, kwargs)

    def _leave(self, _module: nn.Module, _args: tuple[Any, ...], _output: Any) -> None:
        self._depth -= 1

    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for part in self.clear:
            part.clear()
        context = self.context
        ids = kwargs.get("input_ids", args[0] if args else None)
        tokens: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
        length = tokens.shape[1]
        context.entered, context.with_graph, context.shape = True, torch.is_grad_enabled(), tokens.shape[:2]
        context.device = tokens.device
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            mask = None
        context.past = _past(kwargs.get("past_key_values"))
        context.input_ids = ids
        if context.given_mask is not None:
            context.token_mask, context.given_mask = context.given_mask, None
        else:
            context.token_mask = None if mask is None else mask[:, -length:].bool()
        positions = kwargs.get("position_ids")
        if positions is None and mask is not None:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        elif positions is None:
            positions = (torch.arange(length, device=tokens.device) + context.past).unsqueeze(0)
        context.position_ids = positions

    def _before_encoder(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for part in self.clear:
            part.clear()
        side = self.context.encoder
        assert side is not None
        side.input_ids, _, mask = _tokens(args, kwargs)
        self.context.with_graph, side.shape = torch.is_grad_enabled(), mask.shape
        self.context.device = mask.device
        side.token_mask = mask.bool()
        side.position_ids = (mask.long().cumsum(-1) - 1).clamp(min=0)

    def _before_decoder(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Fill the decoder's side.

        Raises:
            RuntimeError: the encoder's states are not those of the encoder's latest pass.
        """
        context = self.context
        for part in self.clear:
            if not isinstance(getattr(part, "context", None), EncoderSide):
                part.clear()
        side = context.encoder
        assert side is not None
        states = kwargs.get("encoder_hidden_states")
        if side.token_mask is None or (states is not None and states.shape[:2] != side.token_mask.shape):
            raise RuntimeError("the decoder was given states of another encoder pass: run the encoder on them first.")
        context.past = _past(kwargs.get("past_key_values"))
        context.input_ids, tokens, mask = _tokens(args, kwargs)
        length = tokens.shape[1]
        context.with_graph, context.shape = torch.is_grad_enabled(), tokens.shape[:2]
        context.token_mask = mask[:, -length:].bool()
        if mask.shape[1] > length or not context.past_length:
            context.position_ids = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        else:
            end = context.past_length + length
            context.position_ids = torch.arange(context.past_length, end, device=tokens.device).unsqueeze(0)


def _past(cache: Any) -> int | Tensor:
    """Tokens in a cache. A static cache counts in place on its device: a copy of its count stays there, so that no pass
    waits for the device, and one can be captured in a graph."""
    seen = 0 if cache is None else cache.get_seq_length()
    return seen.clone() if isinstance(seen, Tensor) else int(seen)


def _tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
    """Of a call of a stack: ids `[b, t]` or None, ids or embeddings, and the mask `[b, past + t]`, ones if missing."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    tokens: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    return ids, tokens, mask
