"""Computations that are cut off and go on: what the tests here share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from harness.checkpoints import Checkpoint
from harness.training.data import Encoded
from harness.training.loop import Recipe, train
from harness.training.packing import routed_passes
from harness.training.phases import phase as kept_phase
from methods.base import Composed, TrainingPhase
from methods.tiny import VOCABULARY, TinySession
from results.ground.errors import NotFinite
from results.partial import Partial
from results.stages import Stages

TOO_LARGE = 1e9
"""A factor on learning rates at which the second step's loss is not finite."""


class Cut(Exception):
    """The process ends here."""


def partial(folder: Path) -> Partial:
    return Stages(folder).partial("composed", "abc")


@contextmanager
def kept(folder: Path, **given: Any) -> Iterator[Checkpoint]:
    """A process's checkpoint, written as often as can be; with the block the process ends."""
    place = partial(folder)
    try:
        yield Checkpoint("the stage", place, {"torch": "1"}, **{"seconds": 0.0, **given})
    finally:
        place.release()


def rows(n: int = 16, domains: int = 4) -> list[Encoded]:
    draw = torch.Generator().manual_seed(0)
    made = []
    for index in range(n):
        length = int(torch.randint(6, 16, (1,), generator=draw))
        ids = tuple(torch.randint(3, VOCABULARY, (length,), generator=draw).tolist())
        made.append(Encoded(f"{index:03d}", "t", index % domains, ids, 2 + index % 3))
    return made


class LoopSession(TinySession):
    """Trains by the engine's own loop, two steps of eight rows in each epoch.

    Args:
        kept: of the fit.
        cut: step, counted from one over all phases, in which the process ends; None for never.
        scale: of learning rates.
        epochs: of each phase.
        cut_look: computation of a loss, counted from one, in which the process ends; None for never.
    """

    def __init__(
        self,
        kept: Checkpoint | None = None,
        cut: int | None = None,
        scale: float = 1.0,
        epochs: int = 2,
        cut_look: int | None = None,
    ) -> None:
        super().__init__()
        self.kept = kept or Checkpoint()
        self.scale = scale
        self.epochs = epochs
        self.tokens = 0
        self.steps_made: list[int] = []
        self.losses: list[dict[str, Any]] = []
        self.looks = 0
        self._cut, self._cut_look = cut, cut_look

    def _step(self, done: int, of: int) -> None:
        self.steps_made.append(done)
        if len(self.steps_made) == self._cut:
            raise Cut
        if self.scale == TOO_LARGE and done == 2:
            raise NotFinite("The loss is not finite.")

    def train(self, composed: Composed, phase: TrainingPhase) -> None:
        rates = {name: self.scale * phase.lr.get(name, 1e-2) for name in phase.groups}
        recipe = Recipe(rates, self.epochs, 8, 8, phase.weight_decay, "cosine", 0.1, seed=3)
        own = rows(domains=max(len(composed.experts), 1))
        given: dict[str, Any] = {"pad_id": 0, "on_step": self._step, "packing": routed_passes(composed, own)}
        log = kept_phase(
            self.kept,
            phase.name,
            composed,
            lambda piece: train(composed, own, phase.groups, recipe, **given, piece=piece),
        )
        self.losses += log.steps

    def loss(self, composed: Composed, data: str, n: int) -> float:
        return self.kept.run(f"loss on {data}", lambda _: self._look(composed, data, n))

    def read(self, composed: Composed, data: str, n: int) -> None:
        self._look(composed, data, n)

    def _look(self, composed: Composed, data: str, n: int) -> float:
        self.looks += 1
        if self.looks == self._cut_look:
            raise Cut
        return super().loss(composed, data, n)

    def dev_loss(self, composed: Composed, n: int) -> float:
        return self._look(composed, "dev", n)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def said(capsys: Any) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: the checkpoint")]
