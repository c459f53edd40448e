"""Composed models whose routing of a whole sequence is decided by a first pass without experts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from methods.routing.composed import RoutedComposed
from methods.routing.context import Side
from methods.routing.providers import Bank, Provider


class Scalings:
    """What a first pass said about the sequences of the current pass.

    Attributes:
        logits: `[b, t or 1, S or 1, N]`.
        initial: those before training; None unless diagnostics are collected.
    """

    def __init__(self) -> None:
        self.logits: Tensor | None = None
        self.initial: Tensor | None = None

    def of(self, sites: Sequence[int], shape: torch.Size, initial: bool) -> Tensor:
        """Logits `[b, t, K, N]` of K sites for a pass of shape `[b, t]`.

        Raises:
            RuntimeError: there was no first pass.
        """
        found = self.initial if initial else self.logits
        if found is None:
            raise RuntimeError("These layers run inside a pass of the whole model: call the model, not its parts.")
        chosen = found[..., list(sites), :] if found.shape[-2] > 1 else found.expand(-1, -1, len(sites), -1)
        return chosen.expand(*shape, -1, -1)


class ScalingsReader(Provider):
    """One site's share of the scalings; without parameters of its own."""

    trainable = False

    def __init__(self, scalings: Scalings, index: int) -> None:
        super().__init__()
        self.scalings = scalings
        self.index = index

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return ScalingsBank(providers)


class ScalingsBank(Bank):
    """The scalings of K sites that read one input."""

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`; only the shape of `x` is looked at."""
        sites = [provider.index for provider in self.providers]
        scalings: Scalings = self.providers[0].scalings
        return scalings.of(sites, x.shape[:2], initial).to(x.device)


class FirstPassComposed(RoutedComposed):
    """Routed layers, and before every pass a first one without experts that says how it is routed.

    With fixed scalings the first pass is the prompt's alone: what it says holds for the text that follows.
    """

    @abstractmethod
    def say(self, scalings: Scalings, hidden: Tensor, side: Side) -> None:
        """Fill scalings from the last hidden states `[b, t, d]` of a first pass, whose tokens `side` knows."""

    def watch(self, scalings: Scalings, of_encoder: Scalings, *, fixed: bool) -> Self:
        """Begin to run first passes.

        Args:
            scalings: read by the sites of a decoder.
            of_encoder: read by those of an encoder.
            fixed: whether a prompt fixes the scalings of what follows.
        """
        self.scalings, self.of_encoder = scalings, of_encoder
        self.fixed = fixed
        self.kv_cache = self.whole_prompts = self.fixed
        self.passes = 1 if self.fixed else 2
        # After the context has been filled, so that it says what this pass is.
        self._first_pass: list[Any] = []
        if self.context.encoder is None:
            self._hook.follow.append(self._classify)
            return self
        whole: Any = self.model
        for stack, hook in (
            (whole.get_encoder(), self._classify_encoder),
            (whole.get_decoder(), self._classify_decoder),
        ):
            self._first_pass.append(stack.register_forward_pre_hook(hook, with_kwargs=True))
        return self

    def _classify(self, inner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the model without experts and keep the scalings of its last hidden states.

        Raises:
            RuntimeError: the pass continues a cache whose prompt was not passed, or any cache for `token`.
        """
        if self.context.past_length:
            self._require_prompt(self._batch(args, kwargs))
            return
        caches = {"past_key_values", "cache_params"} & kwargs.keys()
        whole = {**kwargs, "use_cache": False, **dict.fromkeys(caches)}
        hidden = self._unadapted(inner, args, whole)
        self.say(self.scalings, hidden, self.context)

    def _classify_encoder(self, stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As `_classify`, for the encoder of an encoder-decoder model; its states begin the decoder's first pass."""
        assert self.context.encoder is not None
        self._encoder_states = self._unadapted(stack, args, kwargs)
        if self.fixed:
            self.say(self.scalings, self._encoder_states, self.context.encoder)
        self.say(self.of_encoder, self._encoder_states, self.context.encoder)

    def _classify_decoder(self, stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As `_classify`, for the decoder, which without experts reads the encoder's states without experts."""
        if self.fixed or self.context.past_length:
            self._require_prompt(self._batch(args, kwargs))
            return
        whole = {**kwargs, "use_cache": False, "past_key_values": None, "encoder_hidden_states": self._encoder_states}
        self.say(self.scalings, self._unadapted(stack, args, whole), self.context)

    def _require_prompt(self, batch: int) -> None:
        known = self.scalings.logits is not None and self.scalings.logits.shape[:2] == (batch, 1)
        if not self.fixed:
            raise RuntimeError(
                "The first pass scores whole sequences: pass them without a cache, or choose scope=prompt_fixed and "
                "pass the prompt first."
            )
        if not known:
            raise RuntimeError("Weights belong to the sequences of a prompt's pass: pass the prompt first.")

    def _unadapted(self, stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Last hidden states `[b, t, d]` of a stack without experts."""
        with self.bypassed(), torch.no_grad():
            hidden: Tensor = stack.forward(*args, **kwargs).last_hidden_state
        return hidden if self.context.device is None else hidden.to(self.context.device)

    @staticmethod
    def last_of_prompt(hidden: Tensor, side: Side) -> Tensor:
        """Hidden states `[b, 1, d]` of the prompt's last token."""
        prompt = side.prompt(hidden.shape[:2], hidden.device)
        last = (prompt * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last].unsqueeze(1)

    @staticmethod
    def _batch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        ids = kwargs.get("input_ids", args[0] if args else None)
        return len(kwargs["inputs_embeds"] if ids is None else ids)

    def uninstall(self) -> None:
        """See `Composed.uninstall`."""
        if self._freeze is not None:
            for hook in self._first_pass:
                hook.remove()
        super().uninstall()
