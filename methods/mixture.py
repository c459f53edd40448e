"""A model that is N models: every pass runs the pool's experts in turn and mixes their token distributions."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Expert, Unsupported
from methods.merging.updates import wide_type
from methods.routing.mamba import is_state_space
from methods.turns import InTurn

_OTHERS = "_of_other_experts"
_CACHES = ("past_key_values", "cache_params")
# What generation does to a cache between passes; it must happen to every expert's.
_CHANGES = ("reorder_cache", "crop", "reset", "batch_repeat_interleave", "batch_select_indices")


class Replaced:
    """A module's `forward` replaced by another of the same signature, until `undo`."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        self.module = module
        self.plain: Callable[..., Any] = module.forward
        self._own = module.__dict__.get("forward")
        names = list(inspect.signature(self.plain).parameters)

        @functools.wraps(self.plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return call(dict(zip(names, args, strict=False)) | kwargs)

        module.forward = forward

    def undo(self) -> None:
        """Give the module back what it had."""
        del self.module.forward
        if self._own is not None:
            self.module.forward = self._own


class Mixture(InTurn):
    """`log sum_n w_n p_n(y | x)` as logits, where p_n is the model with expert n alone.

    Caches are N caches: the one that the caller holds is the first expert's and carries the others'. A cache that has a
    `for_expert(n)` of its own is asked for them.

    Attributes:
        weights: logarithms of the weights before they are normalised, `[N]`; None for equal ones.
    """

    def __init__(self, model: nn.Module, experts: Sequence[Expert], weights: nn.Parameter | None = None) -> None:
        """Install.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        super().__init__(model, experts)
        self.passes = len(experts)
        self.weights = weights
        self._inside = False
        self._model = Replaced(model, self._mixed)
        self._encoder: Replaced | None = None
        config: Any = model.config
        self._state_space = is_state_space(config)
        if config.is_encoder_decoder:
            whole: Any = model
            self._encoder = Replaced(whole.get_encoder(), self._encoded)
        if weights is not None:
            holder = nn.Module()
            holder.register_parameter("logits", weights)
            model.add_module("mixture_weights", holder)

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`: `weights`, where they are trained."""
        return {} if self.weights is None else {"weights": {"weights": self.weights}}

    def log_weights(self, like: Tensor) -> Tensor:
        """Logarithms of the weights, `[N]`; they sum to one."""
        logits = like.new_zeros(self.passes) if self.weights is None else self.weights.to(like.device, like.dtype)
        return logits.log_softmax(-1)

    def merged(self, name: str) -> Expert:
        """See `Composed.merged`.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("it mixes what the experts say, which depends on the input, so that no single LoRA equals it")

    def _mixed(self, given: dict[str, Any]) -> Any:
        """The model's forward.

        Raises:
            RuntimeError: labels, or a cache or encoder states of another model.
        """
        if given.get("labels") is not None:
            raise RuntimeError("A mixture computes no loss of labels: take the cross-entropy of its logits.")
        own = self._shares(given)
        outputs: list[Any] = []
        logs: list[Tensor] = []
        total: Tensor | None = None
        keep = torch.is_grad_enabled() and self.weights is not None
        for index in range(self.passes):
            with self.turn(index), self._one_expert(), torch.no_grad():
                output = self._model.plain(**given | own[index])
            log = output.logits.to(wide_type(output.logits.dtype)).log_softmax(-1)
            output.logits = None
            outputs.append(output)
            if keep:
                logs.append(log)
                continue
            weighted = log + self.log_weights(log)[index]
            total = weighted if total is None else torch.logaddexp(total, weighted)
        if keep:
            stacked = torch.stack(logs, -1)
            total = (stacked + self.log_weights(stacked)).logsumexp(-1)
        return self._result(given, outputs, total)

    def _result(self, given: dict[str, Any], outputs: Sequence[Any], total: Tensor | None) -> Any:
        """An output like the model's, with the mixture's logits and a cache that carries all of them."""
        found = {"logits": total}
        for name in _CACHES:
            caches = [getattr(output, name, None) for output in outputs]
            if caches[0] is None:
                continue
            if given.get(name) is None:
                _carry(caches[0], caches[1:])
            found[name] = caches[0] if given.get(name) is None else given[name]
        return type(outputs[0])(**found)

    def _shares(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        """Each expert's own caches and encoder states."""
        own: list[dict[str, Any]] = [{} for _ in range(self.passes)]
        for name in _CACHES:
            if given.get(name) is not None:
                for share, cache in zip(own, self._caches(given[name]), strict=True):
                    share[name] = cache
        states = given.get("encoder_outputs")
        if states is not None:
            if not hasattr(states, _OTHERS):
                raise RuntimeError("These encoder states are not those of every expert: run the model's encoder.")
            for share, each in zip(own, [states, *getattr(states, _OTHERS)], strict=True):
                share["encoder_outputs"] = each
        return own

    def _caches(self, cache: Any) -> list[Any]:
        if hasattr(cache, "for_expert"):
            return [cache.for_expert(index) for index in range(self.passes)]
        if not hasattr(cache, _OTHERS):
            used = cache.has_previous_state() if self._state_space else cache.get_seq_length()
            if used:
                raise RuntimeError(
                    "A cache that was filled without the method cannot be continued with it: pass the text."
                )
            _carry(cache, [copy.deepcopy(cache) for _ in range(self.passes - 1)])
        return [cache, *getattr(cache, _OTHERS)]

    def _encoded(self, given: dict[str, Any]) -> Any:
        """The encoder's forward: inside a pass it is one expert's, called by itself it is every expert's."""
        assert self._encoder is not None
        if self._inside:
            return self._encoder.plain(**given)
        outputs = []
        for index in range(self.passes):
            with self.turn(index), torch.no_grad():
                outputs.append(self._encoder.plain(**given))
        setattr(outputs[0], _OTHERS, outputs[1:])
        return outputs[0]

    @contextmanager
    def _one_expert(self) -> Iterator[None]:
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    def uninstall(self) -> None:
        """See `Composed.uninstall`; a second call does nothing."""
        if self._injection is not None:
            self._model.undo()
            if self._encoder is not None:
                self._encoder.undo()
            if self.weights is not None:
                del self.model.mixture_weights
        super().uninstall()


def _carry(cache: Any, others: Sequence[Any]) -> None:
    """Let a cache carry others, and do to them whatever is done to it."""
    setattr(cache, _OTHERS, list(others))
    for name in _CHANGES:
        if hasattr(cache, name):
            setattr(cache, name, functools.partial(_all, [getattr(one, name) for one in (cache, *others)]))


def _all(calls: Sequence[Callable[..., Any]], *args: Any, **kwargs: Any) -> Any:
    first, *_ = [call(*args, **kwargs) for call in calls]
    return first
