"""The way of tokens through a model: which modules a pass enters, and whose tokens a routed layer is given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Unsupported
from methods.routing.context import Side


def token_stacks(model: nn.Module) -> list[nn.Module]:
    """Modules below a decoder's head that hold its token embeddings, outermost first; the model itself without any.

    The head calls one of them: usually the outermost, but OPT's calls the decoder inside of it. Inner ones may be given
    less (Gemma 3's text model gets embeddings and a mask of another form), so the first that a pass enters counts.
    """
    whole: Any = model
    if not hasattr(model, "get_input_embeddings"):
        return [model]
    embeddings = whole.get_input_embeddings()
    found = [stack for stack in _stacks(model) if stack is not model and _holds(stack, embeddings)]
    return found or [model]


def towers(model: nn.Module) -> tuple[str, ...]:
    """Paths of the models in a decoder that its text does not pass, such as a vision tower; none in other models."""
    config = getattr(model, "config", None)
    if config is None or getattr(config, "is_encoder_decoder", False) or not hasattr(model, "get_input_embeddings"):
        return ()
    whole: Any = model
    embeddings = whole.get_input_embeddings()
    inside = [id(part) for stack in token_stacks(model)[-1:] for part in stack.modules()]
    return tuple(
        path
        for path, module in model.named_modules()
        if path and _is_stack(module) and id(module) not in inside and not _holds(module, embeddings)
    )


def in_towers(path: str, found: tuple[str, ...]) -> bool:
    """Whether a module path lies in one of `towers`."""
    return any(path == tower or path.startswith(f"{tower}.") for tower in found)


def in_sequences(x: Tensor, side: Side | None, name: str) -> Tensor:
    """The input of a routed layer as `[b, t, d]`: a block between experts gets `[b * t, d]`.

    Args:
        x: the input.
        side: what the layer is told of the pass; None where nobody tells it.
        name: the layer's path.

    Raises:
        Unsupported: the input is not all tokens of the pass, so that nobody knows whose they are.
    """
    if x.dim() == 3:
        return x
    shape = None if side is None else side.shape
    if x.dim() == 2 and shape is not None and len(x) == shape.numel():
        return x.unflatten(0, shape)
    raise Unsupported(
        f"The layer {name} is given inputs of shape {tuple(x.shape)}, which are not all tokens of a pass, so that they "
        "cannot be routed: leave it out of the experts' target modules."
    )


def check_pass(side: Side) -> None:
    """Refuse to route tokens of which nothing is known, or whose routing would be lost.

    Raises:
        RuntimeError: the model called its layers past the hooks that say which tokens are padding.
        Unsupported: reentrant gradient checkpointing, which runs layers first without a graph, so that losses of what
            routers did have no gradient.
    """
    if not side.entered:
        raise RuntimeError(
            "the model runs its layers without entering a module that holds its token embeddings, so that padding is "
            "not known to routers: choose another base model."
        )
    if side.training and side.with_graph and not torch.is_grad_enabled():
        raise Unsupported(
            "Reentrant gradient checkpointing leaves routing losses without a gradient: "
            'enable it with {"use_reentrant": False}.'
        )


def _stacks(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if _is_stack(module)]


def _is_stack(module: nn.Module) -> bool:
    return hasattr(module, "get_input_embeddings") and hasattr(module, "config")


def _holds(module: nn.Module, part: nn.Module) -> bool:
    return any(found is part for found in module.modules())
