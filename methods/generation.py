"""`generate` of a loaded model for methods whose weights depend on where the prompt ends, or that take no cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Composed
from methods.routing.tokens import token_stacks


def mark_prompts(model: Any, composed: Composed) -> None:
    """Let the model's `generate` tell the method what the prompt is, where the method must know.

    The tokens of the first pass are the prompt. A method without `kv_cache` is generated with without one.
    """
    if composed.kv_cache and not composed.whole_prompts:
        return

    def generate(*args: Any, **kwargs: Any) -> Any:
        if not composed.kv_cache:
            kwargs.setdefault("use_cache", False)
        if kwargs.get("prefill_chunk_size"):
            raise ValueError("this method's weights belong to whole prompts: leave prefill_chunk_size out.")
        with _marked(model, composed):
            return type(model).generate(model, *args, **kwargs)

    model.generate = generate


def unmark_prompts(model: Any) -> None:
    """Give the model its own `generate` back."""
    vars(model).pop("generate", None)


@contextmanager
def _marked(model: Any, composed: Composed) -> Iterator[None]:
    context, before = composed.context, composed.context.prompt_mask
    if context.encoder is not None:
        # The encoder is given the prompt and nothing else, which sites know without being told.
        yield
        return

    def unhook() -> None:
        for handle in handles:
            handle.remove()

    def first_pass(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        unhook()
        ids = kwargs.get("input_ids", args[0] if args else None)
        tokens: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            mask = torch.ones(tokens.shape[:2], device=tokens.device)
        context.prompt_mask = mask[:, -tokens.shape[1] :].bool()

    # Before the method's own hooks, which look at what it sets.
    handles = [
        stack.register_forward_pre_hook(first_pass, with_kwargs=True, prepend=True) for stack in token_stacks(model)
    ]
    try:
        yield
    finally:
        unhook()
        context.prompt_mask = before
