"""Where routed layers go: sites of a model, which of them share an input, and how to put them in and take them out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Unsupported
from methods.routing.context import RoutingContext
from methods.routing.mamba import ProjectionCalls, is_state_space
from methods.routing.sides import EncoderSide, reads_encoder

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
        self._model = model
        self._replaced = replace_modules(model, modules)
        self._calls = ProjectionCalls(model)

    def undo(self) -> None:
        """Take the modules out."""
        self._calls.undo()
        replace_modules(self._model, self._replaced)


def check_architecture(model_config: Any) -> None:
    """Refuse base models in which an injected layer would be bypassed, or read a sequence that is not known here.

    Raises:
        Unsupported: an encoder-decoder model other than T5, or a state-space model (jamba, mamba2, zamba, ...) of
            unknown mixers.
    """
    kind = getattr(model_config, "model_type", "unknown")
    if "amba" in kind and not is_state_space(model_config):
        raise Unsupported(f"Models of type {kind} are not supported yet: choose a decoder-only transformer.")
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


class PassHook:
    """Runs before each forward pass of a model: fills the context and lets layers forget the previous pass.

    It sits on the inner model (below the language-model head), which is on the way of every call. In encoder-decoder
    models, whose generation calls encoder and decoder by themselves, it sits on both: a pass begins with the encoder,
    and every pass of the decoder leaves what the encoder's routers keep.
    """

    def __init__(self, model: nn.Module, context: RoutingContext, clear: Iterable[Any]) -> None:
        self.context = context
        self.clear = tuple(clear)
        stacks: list[tuple[Any, Any]]
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            context.encoder = context.encoder or EncoderSide(context)
            whole: Any = model
            stacks = [(whole.get_encoder(), self._before_encoder), (whole.get_decoder(), self._before_decoder)]
        else:
            stacks = [(getattr(model, "base_model", model), self._before)]
        self._handles = [stack.register_forward_pre_hook(hook, with_kwargs=True) for stack, hook in stacks]

    def remove(self) -> None:
        """Take the hook off."""
        for handle in self._handles:
            handle.remove()

    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for part in self.clear:
            part.clear()
        context = self.context
        ids = kwargs.get("input_ids", args[0] if args else None)
        tokens: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
        length = tokens.shape[1]
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            mask = None
        cache = kwargs.get("past_key_values")
        context.past_length = int(cache.get_seq_length()) if cache is not None else 0
        context.input_ids = ids
        if context.given_mask is not None:
            context.token_mask, context.given_mask = context.given_mask, None
        else:
            context.token_mask = None if mask is None else mask[:, -length:].bool()
        positions = kwargs.get("position_ids")
        if positions is None and mask is not None:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        elif positions is None:
            end = context.past_length + length
            positions = torch.arange(context.past_length, end, device=tokens.device).unsqueeze(0)
        context.position_ids = positions

    def _before_encoder(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for part in self.clear:
            part.clear()
        side = self.context.encoder
        assert side is not None
        side.input_ids, _, mask = _tokens(args, kwargs)
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
        cache = kwargs.get("past_key_values")
        context.past_length = int(cache.get_seq_length()) if cache is not None else 0
        context.input_ids, tokens, mask = _tokens(args, kwargs)
        length = tokens.shape[1]
        context.token_mask = mask[:, -length:].bool()
        if mask.shape[1] > length or not context.past_length:
            context.position_ids = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        else:
            end = context.past_length + length
            context.position_ids = torch.arange(context.past_length, end, device=tokens.device).unsqueeze(0)


def _tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
    """Of a call of a stack: ids `[b, t]` or None, ids or embeddings, and the mask `[b, past + t]`, ones if missing."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    tokens: Tensor = ids if ids is not None else kwargs["inputs_embeds"]
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    return ids, tokens, mask
