"""Frozen linear layers whose weight is not simply there: quantised by bitsandbytes, or elsewhere until it is needed.

What is put beside such a layer needs the type and the device that it computes in, and seldom its numbers; its product
is always its own forward's. A layer that accelerate's hooks load for each call holds its weight on the meta device
between calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from results.ground.errors import HarnessError

FOUR, EIGHT = "Params4bit", "Int8Params"
_COMPUTES_IN = "_inputs_type"


def stored_as(layer: nn.Module) -> str | None:
    """Class of a quantised layer's weight in bitsandbytes, `FOUR` or `EIGHT`; None of an ordinary layer."""
    kind = type(getattr(layer, "weight", None)).__name__
    return kind if kind in (FOUR, EIGHT) else None


def settle(model: nn.Module) -> bool:
    """Make the quantised layers of a model compute the same in every pass, and tell each which type it is given.

    On processors with bfloat16 units bitsandbytes lays a 4-bit weight out anew in the first pass without gradients, in
    place, after which its products are rounded to bfloat16 whatever type was asked for, and its gradient and its
    dequantised values are those of another matrix. Small layers fail at it.

    Returns:
        Whether there are any.
    """
    found: list[Any] = [layer for layer in model.modules() if stored_as(layer)]
    for layer in found:
        inputs = next(model.parameters()).dtype
        setattr(layer, _COMPUTES_IN, inputs)
        if stored_as(layer) == FOUR and layer.weight.quant_state is not None:
            # The forward dequantises to the type of the product, the gradient and `dense_weight` to this one.
            layer.weight.quant_state.dtype = getattr(layer, "compute_dtype", None) or inputs
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return bool(found)


def rounds_products(model: nn.Module) -> bool:
    """Whether quantised layers of a model round their inputs: to 8 bits, or to a narrower type than they are given."""
    return any(
        kind == EIGHT or _inputs(layer).itemsize > (getattr(layer, "compute_dtype", None) or _inputs(layer)).itemsize
        for layer in model.modules()
        if (kind := stored_as(layer))
    )


def weight_like(layer: Any) -> Tensor:
    """A tensor `[d_out, d_in]` of the type and on the device that a linear layer computes in.

    It is the weight itself where that is there; else it is NaN everywhere and takes no memory, so that whoever computes
    with it is found out.
    """
    weight: Tensor = layer.weight
    if stored_as(layer):
        return _no_values(layer, _inputs(layer), weight.device)
    device = _loaded_to(layer)
    return weight if device is None else _no_values(layer, weight.dtype, device)


def dense_weight(layer: Any) -> Tensor:
    """The weight `[d_out, d_in]` that a linear layer multiplies with, in the type of its inputs; where it is quantised,
    or kept elsewhere, a new matrix."""
    weight: Tensor = layer.weight
    kind = stored_as(layer)
    if kind is None:
        return loaded(layer, "weight")
    from bitsandbytes import functional

    if kind == FOUR:
        dense = functional.dequantize_4bit(weight.data, layer.weight.quant_state)
    else:
        scales = layer.state.SCB if layer.state.SCB is not None else layer.weight.SCB
        dense = functional.int8_vectorwise_dequant(weight.data, scales)
    found: Tensor = dense.to(_inputs(layer))
    return found


def dense_bias(layer: Any) -> Tensor | None:
    """The bias `[d_out]` that a linear layer adds, as `dense_weight` has its weight; None without one."""
    return None if layer.bias is None else loaded(layer, "bias")


def kept_elsewhere(layer: nn.Module) -> bool:
    """Whether accelerate's hook loads a layer's weight for each call."""
    return _loaded_to(layer) is not None


@contextmanager
def with_stand_ins(model: nn.Module) -> Iterator[None]:
    """Inside the block linear layers that are kept elsewhere have what `weight_like` gives for their weight, so that
    code which puts something beside it finds the device that it computes on."""
    away: list[Any] = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and kept_elsewhere(layer)]
    before = [layer.weight for layer in away]
    for layer in away:
        layer.weight = nn.Parameter(weight_like(layer), requires_grad=False)
    try:
        yield
    finally:
        for layer, weight in zip(away, before, strict=True):
            layer.weight = weight


def input_device(model: nn.Module) -> torch.device:
    """Where a model is given its inputs; also of one that is spread over several devices, or in part on the disk."""
    found = [hook.execution_device for hook in _hooks(model) if hook.execution_device is not None]
    return torch.device(found[0]) if found else next(model.parameters()).device


def model_like(model: nn.Module) -> Tensor:
    """An empty tensor of a model's type, where it is given its inputs."""
    return torch.empty(0, dtype=next(model.parameters()).dtype, device=input_device(model))


def _inputs(layer: Any) -> torch.dtype:
    """Type of what a quantised layer is given.

    Raises:
        HarnessError: nothing says it.
    """
    said = getattr(layer, _COMPUTES_IN, None)
    if said is None and layer.bias is not None:
        said = layer.bias.dtype
    if said is None and stored_as(layer) == FOUR:
        said = layer.weight.quant_state.dtype
    if said is None:
        raise HarnessError(
            "The base model was quantised elsewhere, so that the type of its layers' inputs is not known: call "
            "methods.routing.frozen.settle(model) once it is loaded."
        )
    kind: torch.dtype = said
    return kind


def _loaded_to(layer: nn.Module) -> torch.device | None:
    """Device to which accelerate's hook loads a layer's weight for each call; None where it is always there."""
    loading = [hook for hook in _hooks(layer) if hook.offload]
    return torch.device(loading[0].execution_device) if loading else None


def loaded(layer: Any, name: str) -> Tensor:
    """A parameter of a layer; of one that is kept elsewhere a copy on the device that it computes on."""
    here: Tensor = getattr(layer, name)
    for hook in _hooks(layer):
        if hook.offload:
            copy: Tensor = hook.weights_map[name].to(hook.execution_device, here.dtype)
            return copy
    return here


def _hooks(module: nn.Module) -> list[Any]:
    """What accelerate has put on a module to bring weights or inputs to their device, of one hook or of several."""
    hook = getattr(module, "_hf_hook", None)
    return [one for one in getattr(hook, "hooks", (hook,)) if hasattr(one, "execution_device")]


def _no_values(layer: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((), float("nan"), dtype=dtype, device=device).expand(layer.out_features, layer.in_features)
