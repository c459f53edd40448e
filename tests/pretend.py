"""Devices that are not there: tensors compute on the processor, and are told apart as if each were on one of several.

As on GPUs, an operation whose tensors are on two devices is an error; but a number (a tensor without dimensions) of the
host may take part anywhere, host tensors may index, and `copy_` and `to` cross over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

HOST = torch.device("cpu")
FIRST, SECOND = torch.device("cpu", 0), torch.device("cpu", 1)

_GETTERS = (Tensor.device.__get__, Tensor.shape.__get__, Tensor.dtype.__get__)  # type: ignore[attr-defined]
_CROSSING = {"copy_", "__set__", "set_", "backward"}
_CROSSING |= {"load_state_dict", "_has_compatible_shallow_copy_type"}


class Mixed(RuntimeError):
    """An operation was given tensors of two devices."""


class Devices(TorchFunctionMode):
    """Inside it tensors are on devices; those that were made outside are on the host."""

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[int, torch.device] = {}
        self._alive: list[Any] = []  # so that no address is used twice

    def of(self, tensor: Tensor) -> torch.device:
        """Where a tensor is: a property of its storage, so views and parameters are where their tensor is."""
        return self._of.get(tensor.untyped_storage()._cdata, HOST)

    def put(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Say where a tensor is."""
        self._of[tensor.untyped_storage()._cdata] = device
        self._alive.append(tensor.untyped_storage())
        return tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on the processor, after looking at where everything is."""
        kwargs = kwargs or {}
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return self.of(args[0])
        name = getattr(func, "__name__", "")
        if func is torch.device or name == "_parse_to":  # takes a call's arguments apart
            return func(*args, **kwargs)
        given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
        asked = self._asked(name, args, kwargs)
        plain_args, plain_kwargs = tree_map(lambda one: HOST if isinstance(one, torch.device) else one, (args, kwargs))
        if name in ("to", "cpu", "type_as") and asked is not None and asked != self.of(args[0]):
            moved: Tensor = func(*plain_args, **plain_kwargs)
            return self.put(moved.clone() if moved.requires_grad else moved.detach().clone(), asked)
        found = {self.of(one) for one in given if one.dim() or self.of(one) != HOST}
        if name in ("__getitem__", "__setitem__", "index_put_"):
            found -= {HOST}
        if len(found) > 1 and name not in _CROSSING and func not in _GETTERS:
            raise Mixed(f"{name} of tensors on {', '.join(sorted(map(str, found)))}")
        result = func(*plain_args, **plain_kwargs)
        where = asked or (self.of(given[0]) if name in _CROSSING and given else next(iter(found), HOST))
        for one in tree_flatten(result)[0]:
            if isinstance(one, Tensor) and not any(one is other for other in given) and not one.is_meta:
                self.put(one, where)
        return result

    def _asked(self, name: str, args: Any, kwargs: Any) -> torch.device | None:
        if name == "cpu":
            return HOST
        if name in ("to", "type_as"):
            for one in (*args[1:], kwargs.get("device"), kwargs.get("other")):
                if isinstance(one, Tensor):
                    return self.of(one)
                if isinstance(one, torch.device):
                    return one
                if isinstance(one, str):
                    return torch.device(one)
            return None
        device = kwargs.get("device")
        return device if isinstance(device, torch.device) else None


class _Hook(AlignDevicesHook):
    """The hook that accelerate puts on a spread model's parts, whose weights are in their places already."""

    def init_hook(self, module: nn.Module) -> nn.Module:
        return module


@contextmanager
def spread(model: Any, second: tuple[str, ...]) -> Iterator[Devices]:
    """Inside the block a model is on the first device, but for the parts below some paths, which are on the second."""
    devices = Devices()
    parts = {path: SECOND if path in second else FIRST for path in _parts(model)}
    for path, module in model.named_modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            place = next((parts[part] for part in parts if f"{path}.".startswith(f"{part}.")), FIRST)
            devices.put(tensor, place)
    skipped = model._skip_keys_device_placement
    for path, place in parts.items():
        add_hook_to_module(model.get_submodule(path), _Hook(execution_device=place, skip_keys=skipped))
    add_hook_to_module(model, _Hook(execution_device=FIRST, io_same_device=True, skip_keys=skipped))
    with devices:
        yield devices


def _parts(model: Any) -> list[str]:
    """Modules that a device map names: layers, and what is beside them."""
    inner = [f"model.{name}" for name, _ in model.model.named_children() if name != "layers"]
    return [*inner, *(f"model.layers.{n}" for n in range(len(model.model.layers))), "lm_head"]
