"""What is left to do of a plan: which cells, fits and experts no folder holds. Nothing here computes or writes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.planning.plan import Cell, ExpertPlan, Plan
from results.schema import PlannedCell
from results.stages import COMPOSED, EXPERT, OUTPUTS, Stages
from results.store import RunFolder


class Backlog:
    """A plan beside the stages and cells that exist already; asked again, it looks again.

    Args:
        plan: the cells.
        stages: of all runs.
        folder: of this one.
        look: finds a stage: `Stages.find` to plan, `Stages.load` where what is found is used.
        only: cells that alone count; None for all.

    Attributes:
        settled: cells that were tried already, whatever came of it.
        over: whether the folder says that a cell is not to be tried; by default that it is finished.
    """

    def __init__(
        self,
        plan: Plan,
        stages: Stages,
        folder: RunFolder,
        look: Callable[[str, str], Path | None] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self.plan = plan
        self.look = look or stages.find
        self.folder = folder
        self.only = only
        self.settled: set[str] = set()
        self.over = folder.finished

    def now(self) -> Backlog:
        """The same at this moment: each stage and each record is looked at once, however often it is asked for."""
        backlog = copy(self)
        backlog.look, backlog.over = cache(self.look), cache(self.over)
        return backlog

    def pending(self) -> list[Cell]:
        """Cells without a finished record."""
        cells = [cell for cell in self.plan.cells if self.only is None or cell.key in self.only]
        return [cell for cell in cells if cell.key not in self.settled and not self.over(cell.key)]

    def refused(self) -> list[Cell]:
        """Pending cells that make no sense here (a task without an expert in the `lora` row)."""
        return [cell for cell in self.pending() if cell.refusal is not None]

    def lacks_outputs(self, cell: Cell) -> bool:
        """Whether the cell has yet to be evaluated; if not, it can be scored without a model."""
        return self.look(OUTPUTS, cell.outputs_key) is None

    def lacks_fit(self, cell: Cell) -> bool:
        """Whether the cell's method is fitted and no stage holds its fit."""
        return cell.method.method.trains() and self.look(COMPOSED, cell.compose_key) is None

    def missing_experts(self) -> list[ExpertPlan]:
        """Experts that some unfinished composition needs and no stage holds, in pool order, one base model after
        the other."""
        needed: dict[str, ExpertPlan] = {}
        for cell in self.pending():
            if self.lacks_outputs(cell):
                needed |= {expert.key: expert for expert in cell.pool if expert.path is None}
        missing = [expert for key, expert in needed.items() if not self.look(EXPERT, key)]
        return sorted(missing, key=lambda expert: expert.origin or "")

    def missing_fits(self) -> list[Cell]:
        """Cells that take the fit of another base model, one for each that no stage holds."""
        needed: dict[tuple[str, int], Cell] = {}
        for cell in self.pending():
            if cell.origin is not None and cell.refusal is None and self.lacks_outputs(cell):
                needed.setdefault((cell.compose_key, cell.seed), cell)
        return [cell for cell in needed.values() if self.lacks_fit(cell)]

    def groups(self) -> list[list[Cell]]:
        """Pending cells in groups of one composed model each: it is installed once for all its tasks."""
        pending = sorted((cell for cell in self.pending() if cell.refusal is None), key=self._order)
        return [list(group) for _, group in groupby(pending, key=lambda cell: cell.group)]

    def _order(self, cell: Cell) -> tuple[int, int, int]:
        seeds = self.plan.config.seeds
        return self._first[cell.compose_key], seeds.index(cell.seed), self._place[cell.key]

    @cached_property
    def _place(self) -> dict[str, int]:
        return {cell.key: place for place, cell in enumerate(self.plan.cells)}

    @cached_property
    def _first(self) -> dict[str, int]:
        first: dict[str, int] = {}
        for place, cell in enumerate(self.plan.cells):
            first.setdefault(cell.compose_key, place)
        return first

    def state(self, cell: Cell) -> str:
        """Where a cell stands, in words."""
        if cell.refusal:
            return f"no: {cell.refusal}"
        if self.over(cell.key):
            return "finished"
        return "to do" if self.lacks_outputs(cell) else "outputs cached"


def costs(stages: Stages, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds, tokens and log of the stages behind a cell: its experts together, and its fit.

    `seconds` and `tokens` are None where a stage was deleted: what it cost is not known here any more. A method that is
    not fitted, and a pool of which nothing was trained here, cost nothing.
    """
    experts: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "notes": []}
    for expert in (expert for expert in cell.pool if expert.path is None):
        meta = _meta(stages, EXPERT, expert.key)
        for kind in ("seconds", "tokens"):
            known = experts[kind] is not None and kind in meta
            experts[kind] = experts[kind] + meta[kind] if known else None
        experts["notes"] += meta.get("notes", [])
    fit: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "log": [], "trials": [], "phases": [], "notes": []}
    if cell.method.method.trains():
        fit |= {"seconds": None, "tokens": None} | _meta(stages, COMPOSED, cell.compose_key)
    return experts, fit


def _meta(stages: Stages, kind: str, key: str) -> dict[str, Any]:
    try:
        return stages.meta(kind, key)
    except KeyError:
        return {}


def folder_of(plan: ExpertPlan, stages: Stages) -> Path:
    """The adapter directory of one expert of a pool: its stage, or where it lies outside.

    Raises:
        HarnessError: no adapter there.
        RuntimeError: it is not stored.
    """
    from harness.training.experts import outside_folder

    folder = outside_folder(plan.name, plan.path) if plan.path else stages.load(EXPERT, plan.key)
    if folder is None:
        raise RuntimeError(f"the expert {plan.name} is not stored")
    return folder


def stage_names(cell: Cell) -> list[str]:
    """Stages behind a cell as `kind/key`, whether they exist yet or not."""
    names = [f"{EXPERT}/{expert.key}" for expert in cell.pool if expert.path is None]
    if cell.method.method.trains():
        names.append(f"{COMPOSED}/{cell.compose_key}")
    return [*names, f"{OUTPUTS}/{cell.outputs_key}"]


def planned_cell(cell: Cell, label: str = "") -> PlannedCell:
    """A cell as `run.yaml` names it."""
    return PlannedCell(
        cell=cell.key,
        method=cell.spec.method,
        task=cell.spec.task,
        seed=cell.seed,
        model=cell.spec.model,
        variant=label,
        stages=stage_names(cell),
    )
