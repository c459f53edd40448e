"""What the units of a run mean: the engine, the expert or the cell behind a kind and a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.planning.graph import SCORE
from results.stages import COMPOSED, EXPERT, OUTPUTS

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.planning.graph import Unit
    from harness.planning.plan import Cell, ExpertPlan


class Named:
    """Experts and cells of some engines by what units call them; of equal ones the first engine's.

    Attributes:
        experts: by key.
        cells: by kind and key; of a fit or an evaluation, one of those that need it.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.experts: dict[str, tuple[Engine, ExpertPlan]] = {}
        self.cells: dict[tuple[str, str], tuple[Engine, Cell]] = {}
        for engine in engines:
            for cell in (cell for cell in engine.plan.cells if cell.refusal is None):
                for expert in (expert for expert in cell.pool if expert.path is None):
                    self.experts.setdefault(expert.key, (engine, expert))
                for name in ((COMPOSED, cell.compose_key), (OUTPUTS, cell.outputs_key), (SCORE, cell.key)):
                    self.cells.setdefault(name, (engine, cell))

    def kinship(self, unit: Unit) -> tuple[str, ...]:
        """What makes a unit cheaper for a worker that holds it, the dearest first: the composed model, the base."""
        if unit.kind == EXPERT:
            engine, expert = self.experts[unit.key]
            return (f"base {expert.origin or engine.plan.config.model.name}",)
        engine, cell = self.cells[unit.name]
        on = cell.method.origin if unit.kind == COMPOSED else None
        group = (f"model {cell.group} {on}",) if on else (f"model {cell.group}",)
        return (*group, f"base {on or engine.plan.config.model.name}")

    def tell(self, kind: str, key: str) -> bool:
        """Tell a run's observer about a unit that another process has computed; False where it is not seen here yet."""
        if kind == OUTPUTS:
            return True
        if kind == EXPERT:
            engine, _ = self.experts[key]
            if engine.stages.load(EXPERT, key) is None:
                return False
            engine.observer.expert(engine.stages.meta(EXPERT, key))
            return True
        engine, cell = self.cells[kind, key]
        if kind == SCORE:
            record = engine.folder.record(key)
            if record is not None:
                engine.observer.cell(record)
            return record is not None
        if engine.stages.load(COMPOSED, key) is None:
            return False
        task = cell.task.bound.name if cell.method.method.per_task() else None
        engine.observer.fit(cell.spec.method, cell.seed, engine.stages.meta(COMPOSED, key)["log"], task)
        return True
