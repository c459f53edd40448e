"""Training that goes on from a checkpoint: what the next step depends on, kept after a step and put back before one.

That is what is trained and what else a method's `state` holds, the optimiser, the schedule, and the generators that
dropout and noise are drawn from. The order of the rows and the number of steps follow from the configuration, and
nothing else outlives a step: gradients are cleared, and statistics of a window are taken in at its end.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from harness.checkpoints import Data, Piece

if TYPE_CHECKING:
    from harness.training.health import Health
    from methods.base import Composed


class Keeper(TrainerCallback):
    """Offers the state of a training after each of its steps, and puts back the one that it is to go on from.

    Args:
        piece: of the computation.
        composed: what is trained; it is given what it had learned by then.
        log: the training's steps; it is given the first ones.
        health: likewise.

    Attributes:
        step: optimiser steps that are done.
    """

    def __init__(self, piece: Piece, composed: Composed, log: list[dict[str, Any]], health: Health) -> None:
        self._piece, self._composed, self._log = piece, composed, log
        self._found = piece.state
        self.step = 0
        if self._found is not None:
            log.extend(self._found["steps"])
            self.step = len(log)
            composed.load_state(self._found["composed"])
            health.last = self.step, log[-1]["loss"]
            piece.say(f"goes on at step {self.step} of {health.steps}")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put back the optimiser, the schedule and the count of steps."""
        if self._found is not None:
            state.global_step = self.step
            kwargs["optimizer"].load_state_dict(self._found["optimizer"])
            kwargs["lr_scheduler"].load_state_dict(self._found["schedule"])

    def before_step(self) -> None:
        """Put back the generators: what the Trainer draws while it sets out was drawn before."""
        if self._found is not None:
            set_generators(self._found["generators"])
            self._found = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Offer the state, when everything of the step is done."""
        self._piece.offer(lambda: self._state(kwargs["optimizer"], kwargs["lr_scheduler"]))

    def _state(self, optimizer: Any, schedule: Any) -> Data:
        return {
            "steps": self._log,
            "composed": self._composed.state(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generators": generators(),
        }


def generators() -> Data:
    """States of the generators that belong to the process."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else [],
    }


def set_generators(found: Data) -> None:
    """Inverse of `generators`."""
    random.setstate(found["python"])
    kind, keys, *rest = found["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(found["torch"])
    cuda: list[Tensor] = found["cuda"]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
