"""How much a run will write, before it runs, and whether there is room for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.planning.rendered import sample
from results.ground.damage import PlaceError

if TYPE_CHECKING:
    from harness.planning.backlog import Backlog
    from harness.planning.plan import Cell, Plan

WIDTH = 4
"""Bytes of a trained number: PEFT and the routers train in float32, whatever the base model's type is."""
RECORD = 60_000
"""Bytes of a record with its training log, about; of the other small files of a stage too."""
ANSWER = 60
"""Bytes of one choice's log-likelihood as JSON, about."""
LETTERS = 4
"""Bytes of one generated token as text, about."""


class Room(NamedTuple):
    """Bytes that are to be written to the stage store and to the run's folder, about."""

    stages: float = 0.0
    run: float = 0.0

    @property
    def total(self) -> float:
        """Of both."""
        return self.stages + self.run


def room(backlogs: Iterable[Backlog]) -> Room:
    """What is left of some plans, in bytes; a stage that several need counts once."""
    experts: dict[str, float] = {}
    fits: dict[str, float] = {}
    outputs: dict[str, float] = {}
    records = 0.0
    for backlog in backlogs:
        plan = backlog.plan
        experts |= {expert.key: _expert(plan, expert.name) + RECORD for expert in backlog.missing_experts()}
        for cell in backlog.pending():
            records += RECORD
            if cell.refusal is not None:
                continue
            answers, texts = _answers(cell)
            records += answers + texts
            if backlog.lacks_outputs(cell):
                outputs[cell.outputs_key] = answers + RECORD
                if backlog.lacks_fit(cell):
                    fits[cell.compose_key] = _fit(plan, cell) + RECORD
    return Room(sum(sum(kind.values()) for kind in (experts, fits, outputs)), records)


def require_room(needed: Room, stages: Path, run: Path) -> None:
    """See that there is room for what is to be written.

    Raises:
        PlaceError: there is less; nothing has been computed for nothing then.
    """
    places = {stages: needed.stages, run: needed.run}
    devices = {place: _existing(place).stat().st_dev for place in places}
    for place in places:
        together = sum(size for other, size in places.items() if devices[other] == devices[place])
        usage = shutil.disk_usage(_existing(place))
        free = usage.free
        if usage.total and free < together:  # /proc and the like say that they have nothing at all
            raise PlaceError(
                f"The run will write about {megabytes(together)} and {place} has {megabytes(free)} free: free some "
                "space (`harness clean` prunes the stage cache), or choose a larger disk (HARNESS_STAGES, --output)."
            )


def megabytes(size: float) -> str:
    """A size in words."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e6:.1f} MB"


def _existing(place: Path) -> Path:
    return next(one for one in (place.absolute(), *place.absolute().parents) if one.exists())


def _expert(plan: Plan, name: str) -> float:
    return WIDTH * plan.pool_expert(name).numbers


def _fit(plan: Plan, cell: Cell) -> float:
    """A router of one row an expert at every site, and the pool itself where a method trains it."""
    pool: Sequence[str] = [expert.name for expert in cell.pool] or plan.config.experts.names
    widest = max((plan.pool_expert(name).sites for name in pool), key=len)
    routers = WIDTH * len(pool) * sum(shape.d_in for shape in widest.values())
    trained = "expert" in cell.method.method.budgets()
    return routers + (sum(_expert(plan, name) for name in pool) if trained else 0)


def _answers(cell: Cell) -> tuple[float, float]:
    """Raw outputs of a cell, and the prompts that its items keep beside them."""
    asked = sample(cell.task.bound, cell.seed)
    return ANSWER * asked.answers + LETTERS * asked.generated, asked.texts
