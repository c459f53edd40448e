"""Experts on the output layer, whose input a model cuts to the positions whose logits are wanted.

A router looks tokens up by their places in the pass (which are padding, whose prompt they are) and records all of them,
so the output layer must be given them all; the logits are cut instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


class WholeLogits:
    """Cuts logits after an output layer that has been replaced, not its input before; `undo` takes it off.

    Does nothing where the output layer is not among the replaced modules.
    """

    def __init__(self, model: nn.Module, replaced: Iterable[nn.Module]) -> None:
        """Args:
        model: with the modules in it.
        replaced: the modules.
        """
        find: Any = getattr(model, "get_output_embeddings", None)
        head = None if find is None else find()
        self._kept: int | Tensor = 0
        self._handles: list[Any] = []
        if head is not None and any(module is head for module in replaced):
            self._handles = [
                model.register_forward_pre_hook(self._before, with_kwargs=True),
                model.register_forward_hook(self._after),
            ]

    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._kept = kwargs.pop("logits_to_keep", 0)
        return args, kwargs

    def _after(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        kept = self._kept
        if isinstance(kept, Tensor) or kept:
            output.logits = output.logits[:, kept if isinstance(kept, Tensor) else slice(-kept, None)]
        return output

    def undo(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
