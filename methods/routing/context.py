"""What one forward pass tells every routed layer: which tokens count, whose task it is, how far training is."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class RoutingContext:
    """Shared by all routed layers of one composed model.

    Attributes:
        token_mask: `[b, t]` booleans of the tokens of this forward pass that are not padding; None counts all.
        label_mask: `[b, t]` booleans of answer tokens (training only), for `stats_tokens`.
        domain: `[b]` index of each sequence's own expert (training) or None.
        task: name of the task being evaluated, or None while training.
        own_expert: index of the evaluated task's own expert, or None.
        training: whether losses are to be kept from this pass.
        progress: fraction of optimiser steps done, 0 to 1 (drives coefficient ramps).
        collect: whether layers accumulate diagnostics.
    """

    token_mask: Tensor | None = None
    label_mask: Tensor | None = None
    domain: Tensor | None = None
    task: str | None = None
    own_expert: int | None = None
    training: bool = False
    progress: float = 0.0
    collect: bool = False
    listeners: list[object] = field(default_factory=list)

    def begin_task(self, name: str, own: int | None) -> None:
        """Enter evaluation of one task; layers restart their statistics."""
        self.task, self.own_expert, self.collect, self.training = name, own, True, False
        for listener in self.listeners:
            reset = getattr(listener, "reset_diagnostics", None)
            if reset is not None:
                reset()

    def end_task(self) -> None:
        """Leave evaluation of a task; statistics stay readable until the next one."""
        self.task, self.own_expert, self.collect = None, None, False
