"""Computing the units of a plan: experts, fits, evaluations and scores, each stage found or made and stored."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.facts import Facts
from harness.planning import estimate
from harness.planning.backlog import Backlog
from harness.planning.plan import Cell, ExpertPlan, Plan
from harness.progress import Progress
from harness.provenance import phase_peak
from harness.records import failed_record, scored_record
from harness.tracking.observer import Observer
from results.ground.errors import HarnessError
from results.schema import Item, Record
from results.stages import COMPOSED, EXPERT, OUTPUTS, Stages
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.evaluation.cells import Evaluator
    from harness.models import BaseModel, LoadedModels
    from harness.training.session import TrainingData
    from methods.base import Composed


class Engine:
    """Computes what a run's folder is missing. The base model is loaded only if something needs it.

    Args:
        plan: the cells.
        stages: where experts, fits and outputs are found and kept.
        folder: where records go.
        device: as torch names it (`harness.models.resolve_device`).
        models: the base models in memory, shared by the engines of a run.
        arguments: of the command, for records.
        failed: reasons by key of an expert or fit that could not be made; shared by the engines of several base models.
    """

    def __init__(
        self,
        plan: Plan,
        stages: Stages,
        folder: RunFolder,
        device: str,
        models: LoadedModels,
        arguments: Sequence[str],
        *,
        failed: dict[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.stages = stages
        self.folder = folder
        self.device = device
        self.backlog = Backlog(plan, stages, folder)
        self.facts = Facts(plan, device, tuple(arguments))
        self.observer = Observer()
        self._models = models
        self._data: TrainingData | None = None
        self._failed: dict[str, str] = {} if failed is None else failed
        self._origins = {
            name: Engine(origin, stages, folder, device, models, arguments, failed=self._failed)
            for name, origin in plan.origins.items()
        }

    @property
    def base(self) -> BaseModel:
        """The base model, loaded on first use."""
        return self._models.load(self.plan.config.model, self.device)

    @property
    def data(self) -> TrainingData:
        """Encoded training rows, made on first use."""
        if self._data is None:
            from harness.training.session import TrainingData

            self._data = TrainingData(self.plan, self.base)
        return self._data

    def refuse(self) -> None:
        """Write the records of cells that make no sense here."""
        for cell in self.backlog.refused():
            self._keep(failed_record(self.facts, cell, str(cell.refusal), "refused"), [])

    def train_expert(self, expert: ExpertPlan, progress: Progress) -> None:
        """Train and store one expert; a failure is kept for the cells that need it."""
        if expert.origin is not None:
            self._origins[expert.origin].train_expert(replace(expert, origin=None), progress)
            return
        try:
            self._train_expert(expert, progress)
        except Exception as error:
            self._failed[expert.key] = self._failure(f"expert {expert.name}", error)

    def _train_expert(self, expert: ExpertPlan, progress: Progress) -> None:
        from harness.training.experts import train_expert

        weight = self.facts.seconds(estimate.expert_work(self.plan, self.plan.expert_tasks(expert.name)))
        with progress.job(f"expert {expert.name} (seed {expert.seed})", weight) as on_step:
            rows = self.data.expert_rows(expert.name, expert.seed)
            started = time.perf_counter()
            meta: dict[str, Any] = {"expert": expert.name, "tasks": expert.tasks, "seed": expert.seed}
            with self.stages.create(EXPERT, expert.key) as folder:
                log = train_expert(
                    self.base,
                    rows,
                    self.plan.config.experts,
                    name=expert.name,
                    seed=expert.seed,
                    folder=folder,
                    on_step=on_step,
                )
                meta |= {"seconds": time.perf_counter() - started, "tokens": log.tokens, "log": log.steps}
                (folder / "meta.json").write_text(json.dumps(meta, allow_nan=False))
        self.observer.expert(meta)

    def fit_origin(self, cell: Cell, progress: Progress) -> None:
        """Fit what no stage holds, on the base model that a cell takes its fit from; a failure is kept for the cell."""
        assert cell.origin is not None
        assert cell.method.origin is not None
        try:
            with self._origins[cell.method.origin].composed(cell.origin, progress):
                pass
        except Exception as error:
            self._failed[cell.compose_key] = self._failure(f"fit {cell.spec.method}", error)

    def compute(self, cells: Sequence[Cell], progress: Progress) -> None:
        """Evaluate and score one group of cells; a failure becomes their record, and ends nothing else."""
        unevaluated = [cell for cell in cells if self.backlog.lacks_outputs(cell)]
        failures = self._evaluate_all(unevaluated, progress) if unevaluated else {}
        for cell in cells:
            if cell.key not in failures:
                try:
                    self.score(cell)
                except Exception as error:
                    failures[cell.key] = self._failure(f"{cell.spec.method} on {cell.spec.task}", error)
            if cell.key in failures:
                self._keep(failed_record(self.facts, cell, failures[cell.key], "failed"), [])

    def _evaluate_all(self, cells: Sequence[Cell], progress: Progress) -> dict[str, str]:
        """Evaluate cells of one composed model; the reasons why some could not be, by cell."""
        from harness.evaluation.cells import Evaluator
        from harness.probe import BaseChangedError

        first, failures = cells[0], {}
        lost = [
            self._failed[key] for key in (*(one.key for one in first.pool), first.compose_key) if key in self._failed
        ]
        if lost:
            return {cell.key: lost[0] for cell in cells}
        try:
            with self.composed(first, progress) as composed:
                evaluator = Evaluator(self.base, composed, self.plan.config.eval.batch_tokens, first.seed)
                for cell in cells:
                    try:
                        self._evaluate(cell, evaluator, progress)
                    except Exception as error:
                        failures[cell.key] = self._failure(f"{cell.spec.method} on {cell.spec.task}", error)
        except Exception as error:
            reason = self._failure(first.spec.method, error)
            if isinstance(error, BaseChangedError):
                self._models.forget()
            failures |= {cell.key: reason for cell in cells if self.backlog.lacks_outputs(cell)}
        return failures

    def _failure(self, what: str, error: Exception) -> str:
        """One line on a failure; the whole of one that is nobody's mistake goes to the run's `failures.log`."""
        if isinstance(error, HarnessError):
            return str(error)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        with (self.folder.path / FAILURES).open("a") as log:
            log.write(f"{what}\n{''.join(traceback.format_exception(error))}\n")
        return reason

    @contextmanager
    def composed(self, cell: Cell, progress: Progress) -> Iterator[Composed]:
        """The composed model of a cell, fitted or loaded; the base is proved clean again afterwards."""
        from harness.probe import clean_base

        if cell.origin is not None and self.backlog.lacks_fit(cell):
            self.fit_origin(cell, progress)
        with clean_base(self.base):
            experts = [self.expert(plan) for plan in cell.pool]
            composed = cell.method.method.install(self.base.model, experts, seed=cell.seed)
            try:
                if cell.method.method.trains():
                    found = self.stages.find(COMPOSED, cell.compose_key)
                    if found:
                        composed.load(found)
                    else:
                        self._fit(cell, composed, progress)
                yield composed
            finally:
                composed.uninstall()

    def expert_folder(self, plan: ExpertPlan) -> Path:
        """The adapter directory of one expert of the pool: its stage, or where it lies outside."""
        from harness.training.experts import outside_folder

        folder = outside_folder(plan.name, plan.path) if plan.path else self.stages.find(EXPERT, plan.key)
        if folder is None:
            raise RuntimeError(f"the expert {plan.name} was not trained")
        return folder

    def expert(self, plan: ExpertPlan) -> Any:
        """One expert of the pool, from its stage or from outside, checked against the base."""
        from methods.experts import check_fits, load_expert

        expert = load_expert(plan.name, self.expert_folder(plan))
        check_fits(expert, self.base.model)
        return expert

    def _fit(self, cell: Cell, composed: Composed, progress: Progress) -> None:
        from harness.training.session import EngineSession
        from harness.training.tuning import trial_scales, tuned_fit

        weight = self.facts.seconds(estimate.fit_work(self.plan, cell.method.method))
        with progress.job(f"fit {cell.spec.method} (seed {cell.seed})", weight) as on_step:
            started = time.perf_counter()
            scales = trial_scales(self.plan.config, cell.method.method)
            trials: list[dict[str, Any]] = []

            def fresh(scale: float) -> EngineSession:
                task = cell.task.bound.name if cell.method.method.per_task() else None
                return EngineSession(
                    self.plan, self.data, self.base, seed=cell.seed, on_step=on_step, lr_scale=scale, task=task
                )

            with phase_peak(self.device) as peak:
                if scales:
                    session, trials = tuned_fit(cell.method.method, composed, scales, fresh)
                else:
                    session = fresh(1.0)
                    cell.method.method.fit(composed, session)
            meta = {
                "trials": trials,
                "seconds": time.perf_counter() - started,
                "peak_memory": peak.bytes,
                "tokens": session.tokens,
                "log": session.log,
                "phases": session.phases,
                "method": cell.spec.method,
            }
            with self.stages.create(COMPOSED, cell.compose_key) as folder:
                composed.save(folder)
                (folder / "meta.json").write_text(json.dumps(meta, allow_nan=False))
        task = cell.task.bound.name if cell.method.method.per_task() else None
        self.observer.fit(cell.spec.method, cell.seed, session.log, task)

    def _evaluate(self, cell: Cell, evaluator: Evaluator, progress: Progress) -> None:
        from harness.evaluation.cells import evaluate

        weight = self.facts.seconds(estimate.evaluation_work(cell))
        with progress.job(f"{cell.spec.method} on {cell.spec.task} (seed {cell.seed})", weight) as on_done:
            started = time.perf_counter()
            with phase_peak(self.device) as peak:
                outputs = evaluate(evaluator, cell, on_done)
            outputs |= {"seconds": time.perf_counter() - started, "peak_memory": peak.bytes}
            with self.stages.create(OUTPUTS, cell.outputs_key) as folder:
                (folder / "outputs.json").write_text(json.dumps(outputs, allow_nan=False))

    def score(self, cell: Cell) -> Record:
        """Score a cell's stored outputs and write its record; needs no model.

        Raises:
            RuntimeError: its outputs are not stored.
        """
        folder = self.stages.find(OUTPUTS, cell.outputs_key)
        if folder is None:
            raise RuntimeError("the cell has no stored outputs")
        outputs = json.loads((folder / "outputs.json").read_text())
        record, items = scored_record(self.facts, self.stages, cell, outputs)
        self._keep(record, items)
        return record

    def _keep(self, record: Record, items: Sequence[Item]) -> None:
        self.folder.write_cell(record, items)
        self.observer.cell(record)

    def observe(self, observer: Observer) -> None:
        """Tell `observer` from now on what is finished."""
        self.observer = observer
        for origin in self._origins.values():
            origin.observe(observer)

    def computed_elsewhere(self, kind: str, key: str) -> None:
        """Tell the observer about a unit that another process has computed.

        Args:
            kind: `expert` or `cells`.
            key: of the expert, or of the group's first cell.
        """
        if kind == "expert":
            if self.stages.find(EXPERT, key):
                self.observer.expert(self.stages.meta(EXPERT, key))
            return
        first = next(cell for cell in self.plan.cells if cell.key == key)
        for cell in self.plan.cells:
            if (cell.compose_key, cell.seed) == (first.compose_key, first.seed):
                record = self.folder.record(cell.key)
                if record is not None:
                    self.observer.cell(record)


FAILURES = "failures.log"
"""File of a run with the whole text of every unexpected failure."""
