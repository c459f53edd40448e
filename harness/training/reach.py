"""Whether the task loss has a gradient at any router: one that it does not reach learns nothing about the task.

Top-1 weights that are divided by themselves are 1 whatever the router says, and so are the weights of a pool of one.
Such a fit would end without a word, with routers as they began or as the auxiliary losses alone made them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Unsupported

ROUTERS = "routers"
_APART = (ROUTERS, "loss")


@dataclass
class Reach:
    """Looks at the task loss's own gradient at the routers in one step of a fit.

    Attributes:
        routers: parameters.
        step: the step that is looked at: the first, or where experts that start at zero are trained with the routers
            the third, since routers of experts that do nothing yet have no gradient before these have moved.
        reached: whether some element was not zero.
    """

    routers: Sequence[nn.Parameter]
    step: int = 0
    reached: bool = False

    @classmethod
    def of(cls, available: Mapping[str, Mapping[str, nn.Parameter]], groups: Sequence[str]) -> Reach | None:
        """For a phase that trains `groups`; None where no routers are among them."""
        if ROUTERS not in groups:
            return None
        return cls(list(available[ROUTERS].values()), 0 if all(name in _APART for name in groups) else 2)

    def watch(self, step: int) -> Callable[[Tensor], None] | None:
        """What is to be called with every micro-batch's task loss of a step."""
        return self._look if step == self.step and not self.reached else None

    def _look(self, loss: Tensor) -> None:
        if self.reached or not loss.requires_grad:
            return
        found = torch.autograd.grad(loss, self.routers, retain_graph=True, allow_unused=True)
        self.reached = any(bool((gradient != 0).any()) for gradient in found if gradient is not None)

    def require(self, step: int) -> None:
        """Refuse to go on after the step that was looked at.

        Raises:
            Unsupported: the task loss reaches no router.
        """
        if step == self.step and not self.reached:
            raise Unsupported(
                "The task loss reaches no router, so nothing of the task would be learned: keep two experts or more in "
                "training (route.train_k), or set route.straight_through=true or route.renorm=none, and see that the "
                "pool has two experts that differ."
            )
