"""Cells computed a second time, apart from everything that is stored of them but their experts, and compared."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.evaluation.compared import compared
from results.ground.errors import HarnessError
from results.schema import Item, Record
from results.stages import EXPERT, Stages
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.planning.plan import Cell
    from harness.runs import Run


@dataclass(frozen=True)
class Again:
    """What computing cells again showed.

    Attributes:
        cells: their keys, in plan order.
        eligible: how many there were to choose from.
        differences: sentences; empty when all is equal, or as near as rounding leaves it.
        rounded: sentences on the cells that are that near, and not equal.
        elsewhere: what their records say of the machine, where that is not this one.
    """

    cells: tuple[str, ...]
    eligible: int
    differences: tuple[str, ...]
    rounded: tuple[str, ...]
    elsewhere: tuple[str, ...]


def again(run: Run, n: int, seed: int) -> Again:
    """Compute up to `n` finished cells of a run again and compare scores, outcomes and outputs of every item.

    Fits, outputs and scores go to a store of their own that is removed afterwards, so that nothing is believed that is
    being verified. Experts are taken from the store: the cells are chosen by `seed` among those whose experts it holds.

    Raises:
        HarnessError: there is no such cell, or a judge or sandbox that its task needs is not at hand.
    """
    places = _eligible(run)
    if not places:
        raise HarnessError(
            f"No cell of {run.path} can be computed again: none is finished whose experts are stored and whose "
            "versions and data are those of now."
        )
    chosen = sorted(random.Random(seed).sample(range(len(places)), min(n, len(places))))
    differences: list[str] = []
    rounded: list[str] = []
    elsewhere: dict[str, None] = {}
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as scratch:
        records = _computed(run, [places[index] for index in chosen], Path(scratch))
        for index in chosen:
            stored = run.folder.record(places[index][1].key)
            assert stored is not None
            record, items = records[stored.cell]
            name = f"{stored.cell} ({stored.spec.method} on {stored.spec.task}), computed again"
            found = compared(places[index][1], stored, run.folder.items(stored.cell), record, items)
            differences += [f"{name}: {sentence}" for sentence in found.differences]
            rounded += [f"{name}: {found.rounding}."] if found.rounding else []
            if stored.environment.hardware != record.environment.hardware:
                elsewhere[stored.environment.hardware] = None
    cells = tuple(places[index][1].key for index in chosen)
    return Again(cells, len(places), tuple(differences), tuple(rounded), tuple(elsewhere))


def _eligible(run: Run) -> list[tuple[Engine, Cell]]:
    """Finished cells that are planned equally today and whose experts are stored, or come from outside."""
    found: dict[str, tuple[Engine, Cell]] = {}
    for engine in run.engines:
        for cell in engine.plan.cells:
            if cell.refusal is None and run.folder.finished(cell.key) and _has_experts(run.stages, cell):
                found.setdefault(cell.key, (engine, cell))
    return list(found.values())


def _has_experts(stages: Stages, cell: Cell) -> bool:
    return all(one.path is not None or stages.load(EXPERT, one.key) is not None for one in cell.pool)


def _computed(run: Run, places: Sequence[tuple[Engine, Cell]], scratch: Path) -> dict[str, tuple[Record, list[Item]]]:
    """Records and items of cells that were computed in a store and a folder below `scratch`."""
    from harness.engine import Engine
    from harness.executors import local
    from harness.models import LoadedModels
    from harness.planning import graph
    from harness.planning.choices import ask_scoring
    from harness.progress import Progress

    stages = Stages(scratch / "stages")
    for expert in (expert for _, cell in places for expert in cell.pool if expert.path is None):
        link = stages.path(EXPERT, expert.key)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(run.stages.path(EXPERT, expert.key).absolute(), target_is_directory=True)
    for bound in {id(cell.task.bound): cell.task.bound for _, cell in places}.values():
        ask_scoring(bound)
    folder = RunFolder.create(scratch / "run", run.folder.info)
    models = LoadedModels()
    twins = [
        Engine(engine.plan, stages, folder, engine.device, models, run.arguments, only=own)
        for engine in run.engines
        if (own := {cell.key for one, cell in places if one is engine})
    ]
    left = graph.units((twin.backlog, twin.facts.seconds) for twin in twins)
    progress = Progress(sum(unit.seconds for unit in left))
    with progress.shown():
        local(twins, progress)
    keys = [cell.key for _, cell in places]
    return {key: (_record(folder, key), folder.items(key)) for key in keys}


def _record(folder: RunFolder, key: str) -> Record:
    record = folder.record(key)
    if record is None:
        raise RuntimeError(f"the cell {key} was not computed")
    return record
