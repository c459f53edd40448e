"""A phase of a fit, trained here or by an earlier process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.checkpoints import Checkpoint, Data, Piece
from harness.training.loop import TrainingLog
from harness.training.resuming import generators, set_generators
from results.ground.errors import NotFinite

if TYPE_CHECKING:
    from methods.base import Composed


def phase(kept: Checkpoint, name: str, composed: Composed, train: Callable[[Piece], TrainingLog]) -> TrainingLog:
    """Run a phase of a fit, or put back what an earlier process had come to at its end.

    Args:
        kept: the fit's.
        name: of the phase.
        composed: what is trained.
        train: trains it.

    Raises:
        NotFinite: the phase did not stay finite, here or there.
    """

    def result(piece: Piece) -> Data:
        try:
            log = train(piece)
        except NotFinite as error:
            return {"error": str(error), "generators": generators()}
        state = {name: value.cpu() for name, value in composed.state().items()}
        return {"log": asdict(log), "composed": state, "generators": generators()}

    found = kept.run(name, result)
    if kept.replayed:
        set_generators(found["generators"])
    if "error" in found:
        raise NotFinite(found["error"])
    if kept.replayed:
        composed.load_state(found["composed"])
    return TrainingLog(**found["log"])
