"""Where routed layers go: sites of a model, which of them share an input, and how to put them in and take them out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from methods.base import Unsupported
from methods.routing.mamba import ProjectionCalls, mixers_of
from methods.routing.probe import refuse_bypassed
from methods.routing.sides import reads_encoder

# Projections of one module that read the same tensor, by the last part of their path.
_SHARED_INPUTS = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"gate_proj", "up_proj"}),
    frozenset({"q", "k", "v"}),
    frozenset({"wi_0", "wi_1"}),
)
# Encoder-decoder models whose sites `reads_encoder` knows.
_ENCODER_DECODERS = ("t5",)
_LAYER = re.compile(r"(.*?\.\d+)(?:\.|$)")


def layer_of(site: str) -> str:
    """Path of the layer that a site belongs to (up to the first numbered part), or the site itself."""
    match = _LAYER.match(site)
    return match[1] if match else site


def input_groups(sites: Sequence[str]) -> list[list[str]]:
    """Partition of sites into those that read the same tensor; order is kept."""
    groups: dict[Any, list[str]] = {}
    for site in sites:
        parent, _, leaf = site.rpartition(".")
        family = next((family for family in _SHARED_INPUTS if leaf in family), leaf)
        # Cross-attention reads two tensors: the decoder's for q, the encoder's for k and v.
        groups.setdefault((parent, family, reads_encoder(site)), []).append(site)
    return list(groups.values())


def replace_modules(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Put modules in place of those at their paths and return the replaced ones, which undo it."""
    replaced = {}
    for path, module in modules.items():
        parent_path, _, leaf = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        replaced[path] = getattr(parent, leaf)
        setattr(parent, leaf, module)
    return replaced


class Injection:
    """Modules in the place of a model's own, where its forward calls them; `undo` gives back what was there."""

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        """Put them in.

        Raises:
            Unsupported: the model's code would bypass one of them.
        """
        refuse_bypassed(model, modules, mended=mixers_of(model))
        self._model = model
        self._replaced = replace_modules(model, modules)
        self._calls = ProjectionCalls(model)

    def undo(self) -> None:
        """Take the modules out."""
        self._calls.undo()
        replace_modules(self._model, self._replaced)


def check_architecture(model_config: Any) -> None:
    """Refuse base models that read a sequence which is not known here.

    What a decoder's layers are like is looked at when something is put into them, see `methods.routing.probe`.

    Raises:
        Unsupported: an encoder-decoder model other than T5.
    """
    kind = getattr(model_config, "model_type", "unknown")
    if getattr(model_config, "is_encoder_decoder", False) and kind not in _ENCODER_DECODERS:
        raise Unsupported(f"Encoder-decoder models of type {kind} are not supported: choose T5, or a decoder alone.")


class Freeze:
    """Takes gradients off all parameters of a base model, and gives back what was there."""

    def __init__(self, model: nn.Module) -> None:
        self._flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        for parameter, _ in self._flags:
            parameter.requires_grad_(False)

    def undo(self) -> None:
        """Restore the flags."""
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)
