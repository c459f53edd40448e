"""Whether experts and adapters fit a base model: shapes, targets, and the parameters that both hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.adapter_file import Adapter
from methods.base import Expert
from methods.patterns import AdapterError
from methods.routing.frozen import loaded
from methods.routing.tokens import in_towers, towers


def check_fits(expert: Expert, model: nn.Module) -> None:
    """Compare an expert's shapes with the model's, and the copies of base parameters beside it with the model's own.

    Raises:
        AdapterError: the expert was trained for another base model; the message lists up to three unequal sites.
    """
    shapes = {site: (factors.B.shape[0], factors.A.shape[1]) for site, factors in expert.sites.items()}
    _check_shapes(expert.name, shapes, model)
    for name, stored in expert.copies.items():
        own = _parameter(expert.name, name, tuple(stored.shape), model)
        # Whichever type is the coarser: either the adapter or the base has been rounded to it.
        coarse = min(stored.dtype, own.dtype, key=lambda kind: (torch.finfo(kind).bits, -torch.finfo(kind).eps))
        if not own.is_meta and not torch.equal(stored.to(own.device, coarse), own.to(coarse)):
            raise AdapterError(
                f"The adapter of the expert '{expert.name}' stores {name}, and this model's is not equal to it: choose "
                "the base model that it was trained on, or train embeddings no further."
            )


def check_adapter(name: str, adapter: Adapter, model: nn.Module) -> None:
    """See, from shapes alone, that an adapter fits a model and that PEFT would put the same layers into it.

    Args:
        name: the expert's.
        adapter: its headers.
        model: may be on the meta device.

    Raises:
        AdapterError: see `check_fits`; or a layer that the configuration names has no factors, or the other way round.
    """
    _check_shapes(name, {site: (shape.d_out, shape.d_in) for site, shape in adapter.sites.items()}, model)
    for parameter, (shape, _) in adapter.copies.items():
        _parameter(name, parameter, shape, model)
    head, outside = _output_layer(model), towers(model)
    for path, module in model.named_modules():
        named = adapter.config.names(path) and not (adapter.config.targets.all_linear and module is head)
        # What text does not pass may lack factors: zero ones would say nothing.
        matters = path in adapter.sites or not in_towers(path, outside)
        if isinstance(module, nn.Linear) and matters and named != (path in adapter.sites):
            holds = "holds none for" if named else "holds factors for"
            raise AdapterError(
                f"The adapter of the expert '{name}' {holds} {path}, which its target_modules "
                f"{'name' if named else 'leave out'}: make them agree, or save it again."
            )
        if module is head and path in adapter.sites and adapter.config.ties_embeddings:
            raise AdapterError(
                f"The adapter of the expert '{name}' is tied to the embeddings at {path} (ensure_weight_tying), which "
                "is not supported: train it without."
            )


def _check_shapes(name: str, shapes: Mapping[str, tuple[int, int]], model: nn.Module) -> None:
    problems = []
    for site, shape in shapes.items():
        try:
            module: Any = model.get_submodule(site)
        except AttributeError:
            problems.append(f"site {site} does not exist here")
            continue
        if not isinstance(module, nn.Linear):
            problems.append(f"site {site} is a {type(module).__name__} here, not a linear layer")
        elif (module.out_features, module.in_features) != shape:
            here = (module.out_features, module.in_features)
            problems.append(f"site {site} has shape {shape} in the expert and {here} here")
    if problems:
        more = f", and {len(problems) - 3} more differences" if len(problems) > 3 else ""
        raise AdapterError(f"The expert '{name}' was trained for another base model: {', '.join(problems[:3])}{more}.")


def _parameter(expert: str, name: str, shape: tuple[int, ...], model: nn.Module) -> Tensor:
    """The model's own parameter of which an adapter holds a copy.

    Raises:
        AdapterError: it is not of an embedding, or has another shape here.
    """
    embeddings: Any = model
    layers = (embeddings.get_input_embeddings(), _output_layer(model))
    place, _, leaf = name.rpartition(".")
    for path, module in model.named_modules():
        if path == place and any(module is layer for layer in layers) and getattr(module, leaf, None) is not None:
            own = loaded(module, leaf)
            if own.shape != shape:
                raise AdapterError(
                    f"The adapter of the expert '{expert}' stores {name} of shape {shape}, which is "
                    f"{tuple(own.shape)} here: resized embeddings are not supported."
                )
            return own
    raise AdapterError(
        f"The adapter of the expert '{expert}' stores {name}, which is no embedding of this model: save it without."
    )


def _output_layer(model: nn.Module) -> nn.Module | None:
    find: Any = getattr(model, "get_output_embeddings", None)
    found: nn.Module | None = None if find is None else find()
    return found
