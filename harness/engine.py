"""Computing the units of a plan: experts, fits, evaluations and scores, each stage found or made and stored."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.checkpoints import Checkpoint, checkpoint
from harness.evaluation import controls
from harness.facts import Facts
from harness.failures import TRIED, SharedFailures, reason
from harness.models import rounding
from harness.planning import estimate
from harness.planning.backlog import Backlog, folder_of
from harness.planning.graph import SCORE
from harness.planning.plan import Cell, ExpertPlan, Plan
from harness.progress import Job, Progress
from harness.provenance import phase_peak
from harness.records import failed_record, scored_record
from harness.tracking.observer import Observer
from results.ground.reading import file_bytes, json_value
from results.schema import Item, Record
from results.stages import COMPOSED, EXPERT, OUTPUTS, Stages, Wait
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.evaluation.cells import Evaluator
    from harness.models import BaseModel, LoadedModels
    from harness.training.session import TrainingData
    from methods.base import Composed, Expert


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
        only: cells that alone are computed; None for all.

    Attributes:
        backlog: what is left, looked at cheaply, for plans and estimates.
        work: what is left, every stage behind it read: what is damaged is left too.
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
        failed: MutableMapping[str, str] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self.plan = plan
        self.stages = stages
        self.folder = folder
        self.device = device
        self.backlog = Backlog(plan, stages, folder, only=only)
        self.work = Backlog(plan, stages, folder, stages.load, only)
        self.facts = Facts(plan, device, tuple(arguments))
        self.observer = Observer()
        self._models = models
        self._data: TrainingData | None = None
        self.failed: MutableMapping[str, str] = {} if failed is None else failed
        self.shared = False
        self._origins = {
            name: Engine(origin, stages, folder, device, models, arguments, failed=self.failed)
            for name, origin in plan.origins.items()
        }

    def share(self) -> None:
        """Compute the run together with other processes, in one folder: what one of them tried is tried."""
        self.failed = SharedFailures(self.folder.path / TRIED)
        for engine in (self, *self._origins.values()):
            engine.failed, engine.shared = self.failed, True
            engine.backlog.over = engine.work.over = self.folder.tried

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

    def forget(self) -> None:
        """Load the base model from its files next time: something changed it in memory."""
        self._models.forget()

    def refuse(self) -> None:
        """Write the records of cells that make no sense here."""
        for cell in self.backlog.refused():
            self._keep(failed_record(self.facts, cell, str(cell.refusal), "refused"), [])

    def units(self) -> list[Callable[[Progress], Wait | None]]:
        """What is left, in an order that loads each base model once: each does its part, or says whom it waits for.
        Of several processes each begins with what has to be fitted, so that none waits for another's fit in the end."""
        experts = [one for one in self.work.missing_experts() if one.key not in self.failed]
        fits = [cell for cell in self.work.missing_fits() if cell.compose_key not in self.failed]
        groups = self.work.groups()
        if self.shared:
            groups.sort(key=lambda cells: not self.work.lacks_fit(cells[0]))
        return [
            *(partial(self.train_expert, expert) for expert in experts),
            *(partial(self.fit_origin, cell) for cell in fits),
            *(partial(self.compute, cells) for cells in groups),
        ]

    def train_expert(self, expert: ExpertPlan, progress: Progress) -> Wait | None:
        """Train and store one expert; a failure is kept for the cells that need it."""
        if expert.origin is not None:
            return self._origins[expert.origin].train_expert(replace(expert, origin=None), progress)
        with self.stages.claim(EXPERT, expert.key) as mine:
            if not mine:
                return Wait(EXPERT, expert.key, f"the expert {expert.name}")
            if expert.key not in self.failed and self.stages.load(EXPERT, expert.key) is None:
                try:
                    self._train_expert(expert, progress)
                except Exception as error:
                    self.failed[expert.key] = self.failure(f"expert {expert.name}", error)
        return None

    def settle_expert(self, expert: ExpertPlan, progress: Progress) -> None:
        """`train_expert`; where another process on the store is at it, wait until it is done."""
        while self.train_expert(expert, progress) is not None:
            time.sleep(1.0)

    def _train_expert(self, expert: ExpertPlan, progress: Progress) -> None:
        from harness.training.experts import trained_expert

        weight = self.facts.seconds(estimate.expert_work(self.plan, self.plan.expert_tasks(expert.name)))
        name = f"expert {expert.name} (seed {expert.seed})"
        with progress.job(name, weight) as on_step, self._kept(EXPERT, expert.key, name, on_step) as kept:
            rows = self.data.expert_rows(expert.name, expert.seed)
            kept.begin()
            meta: dict[str, Any] = {"expert": expert.name, "tasks": expert.tasks, "seed": expert.seed}
            section = self.plan.config.experts
            own: dict[str, Any] = {"name": expert.name, "seed": expert.seed, "on_step": on_step}
            with rounding(self.plan.config.model), self.stages.create(EXPERT, expert.key) as folder:
                trained = trained_expert(self.base, rows, section, kept=kept, folder=folder, **own)
                meta |= {"seconds": kept.seconds, **trained}
                (folder / "meta.json").write_text(json.dumps(meta, allow_nan=False))
        self.observer.expert(meta)

    def _kept(self, kind: str, key: str, what: str, job: Job) -> AbstractContextManager[Checkpoint]:
        """What a stage that is about to be computed has come to, and will."""
        return checkpoint(self.stages, kind, key, what, self.facts.made, job.say)

    def fit_origin(self, cell: Cell, progress: Progress) -> Wait | None:
        """Fit what no stage holds, on the base model that a cell takes its fit from; a failure is kept for the cell."""
        assert cell.origin is not None
        assert cell.method.origin is not None
        try:
            origin = self._origins[cell.method.origin]
            if (wait := origin._lacks(cell.origin)) is not None:
                return wait
            with self.stages.claim(COMPOSED, cell.compose_key) as mine:
                if not mine:
                    return Wait(COMPOSED, cell.compose_key, f"the fit of {cell.spec.method}")
                self._fit_there(cell, progress)
        except Exception as error:
            self.failed[cell.compose_key] = self.failure(f"fit {cell.spec.method}", error)
        return None

    def _fit_there(self, cell: Cell, progress: Progress) -> None:
        """Fit a cell on the base model that it takes its fit from, unless that is stored. The cell's own base never
        stands in for it."""
        assert cell.origin is not None
        assert cell.method.origin is not None
        if self.work.lacks_fit(cell):
            with self._origins[cell.method.origin].composed(cell.origin, progress):
                pass

    def compute(self, cells: Sequence[Cell], progress: Progress) -> Wait | None:
        """Evaluate and score those of a group of cells that no other process is at; a failure becomes their record, and
        ends nothing else."""
        unevaluated = [cell for cell in cells if self.work.lacks_outputs(cell)]
        failures = {cell.key: self.failed[cell.outputs_key] for cell in unevaluated if cell.outputs_key in self.failed}
        unevaluated = [cell for cell in unevaluated if cell.key not in failures]
        wait = self._evaluate_all(unevaluated, failures, progress) if unevaluated else None
        settled = False
        for cell in cells:
            if cell.key not in failures and self.work.lacks_outputs(cell):
                continue
            with self._turn(cell) as mine:
                if not mine:
                    wait = wait or Wait(SCORE, cell.key, f"the score of {cell.spec.method} on {cell.spec.task}")
                    continue
                if not self.work.over(cell.key):
                    self.settle(cell, failures)
            self.work.settled.add(cell.key)
            settled = True
        return None if settled else wait

    def _turn(self, cell: Cell) -> AbstractContextManager[bool]:
        """Whether it is this process that scores a cell: nobody else does unless the run is shared."""
        return self.stages.claim(SCORE, cell.key) if self.shared else nullcontext(True)

    def settle(self, cell: Cell, failures: dict[str, str]) -> None:
        """Write the record of a cell that has outputs or failed."""
        if cell.key not in failures:
            try:
                self.score(cell)
            except Exception as error:
                failures[cell.key] = self.failure(f"{cell.spec.method} on {cell.spec.task}", error)
        if cell.key in failures:
            self._keep(failed_record(self.facts, cell, failures[cell.key], "failed"), [])

    def _lacks(self, cell: Cell) -> Wait | None:
        """The first expert of a cell that is neither stored nor known to fail: another process trains it."""
        for expert in cell.pool:
            if expert.path is None and expert.key not in self.failed and self.stages.load(EXPERT, expert.key) is None:
                return Wait(EXPERT, expert.key, f"the expert {expert.name}")
        return None

    def _evaluate_all(self, cells: Sequence[Cell], failures: dict[str, str], progress: Progress) -> Wait | None:
        """Evaluate those cells of one composed model that no other process is at.

        Args:
            cells: without outputs.
            failures: takes the reasons why some could not be evaluated, by cell.
            progress: the display.
        """
        from harness.evaluation.cells import Evaluator
        from harness.probe import BaseChangedError

        first = cells[0]
        keys = (*(one.key for one in first.pool), first.compose_key)
        if lost := [self.failed[key] for key in keys if key in self.failed]:
            failures |= {cell.key: lost[0] for cell in cells}
            return None
        if (wait := self._lacks(first)) is not None:
            return wait
        with ExitStack() as claims:
            if self.work.lacks_fit(first) and not claims.enter_context(self.stages.claim(COMPOSED, first.compose_key)):
                return Wait(COMPOSED, first.compose_key, f"the fit of {first.spec.method}")
            mine = self._first_free(cells, claims)
            if mine is None:
                return Wait(OUTPUTS, first.outputs_key, f"{first.spec.method} on {first.spec.task}")
            try:
                with self.composed(first, progress) as composed:
                    evaluator = Evaluator(self.base, composed, self.plan.config.eval.batch_tokens, first.seed)
                    for cell in (mine, *(cell for cell in cells if cell is not mine)):
                        self._evaluate_unclaimed(cell, cell is mine, evaluator, failures, progress)
            except Exception as error:
                failed = self.failure(first.spec.method, error)
                if isinstance(error, BaseChangedError):
                    self.forget()
                for cell in (cell for cell in cells if self.work.lacks_outputs(cell)):
                    self._fail(cell, failed, failures)
        return None

    def _first_free(self, cells: Sequence[Cell], claims: ExitStack) -> Cell | None:
        """The first cell that no other process is at, claimed until `claims` ends: a model is made for something."""
        for cell in cells:
            if claims.enter_context(self.stages.claim(OUTPUTS, cell.outputs_key)):
                return cell
        return None

    def _evaluate_unclaimed(
        self, cell: Cell, mine: bool, evaluator: Evaluator, failures: dict[str, str], progress: Progress
    ) -> None:
        """Evaluate a cell unless another process is at it or has done so."""
        with ExitStack() as claims:
            mine = mine or claims.enter_context(self.stages.claim(OUTPUTS, cell.outputs_key))
            if not mine or not self.work.lacks_outputs(cell):
                return
            if cell.outputs_key in self.failed:
                return
            try:
                self.evaluate(cell, evaluator, progress)
            except Exception as error:
                self._fail(cell, self.failure(f"{cell.spec.method} on {cell.spec.task}", error), failures)

    def _fail(self, cell: Cell, why: str, failures: dict[str, str]) -> None:
        failures[cell.key] = why
        if self.shared:  # alone, cells of equal outputs are each tried
            self.failed[cell.outputs_key] = why

    def failure(self, what: str, error: Exception) -> str:
        return reason(what, error, self.folder.path, self.stages.root)

    @contextmanager
    def composed(self, cell: Cell, progress: Progress) -> Iterator[Composed]:
        """The composed model of a cell, fitted or loaded; the base is proved clean again afterwards."""
        from harness.probe import clean_base

        if cell.origin is not None:
            self._fit_there(cell, progress)
        with rounding(self.plan.config.model), clean_base(self.base):
            experts = controls.pool(cell, [self.expert(plan) for plan in cell.pool])
            found = self.stages.load(COMPOSED, cell.compose_key) if cell.method.method.trains() else None
            if cell.method.method.trains() and found is None:
                composed = self._fitted(cell, experts, progress)
            else:
                composed = cell.method.method.install(self.base.model, experts, seed=cell.seed)
            try:
                if found is not None:
                    composed.load(found)
                controls.arrange(cell, composed)
                yield composed
            finally:
                composed.uninstall()

    def expert(self, plan: ExpertPlan) -> Expert:
        """One expert of the pool, from its stage or from outside, checked against the base."""
        from methods.experts import check_fits, load_expert

        expert = load_expert(plan.name, folder_of(plan, self.stages))
        check_fits(expert, self.base.model)
        return expert

    def _fitted(self, cell: Cell, experts: Sequence[Expert], progress: Progress) -> Composed:
        """The composed model of a cell, fitted here and stored."""
        from harness.training.fitting import fitted

        weight = self.facts.seconds(estimate.fit_work(self.plan, cell.method.method))
        name = f"fit {cell.spec.method} (seed {cell.seed})"
        with progress.job(name, weight) as on_step, self._kept(COMPOSED, cell.compose_key, name, on_step) as kept:
            with phase_peak(self.device) as peak:
                kept.peak = peak.so_far
                composed, meta = fitted(self.plan, self.data, self.base, cell, experts, on_step, kept)
            meta |= {"seconds": kept.seconds, "peak_memory": kept.most, "method": cell.spec.method}
            try:
                with self.stages.create(COMPOSED, cell.compose_key) as folder:
                    composed.save(folder)
                    (folder / "meta.json").write_text(json.dumps(meta, allow_nan=False))
            except BaseException:
                composed.uninstall()
                raise
        task = cell.task.bound.name if cell.method.method.per_task() else None
        self.observer.fit(cell.spec.method, cell.seed, meta["log"], task)
        return composed

    def evaluate(self, cell: Cell, evaluator: Evaluator, progress: Progress) -> None:
        from harness.evaluation.cells import evaluated

        weight = self.facts.seconds(estimate.evaluation_work(cell))
        name = f"{cell.spec.method} on {cell.spec.task} (seed {cell.seed})"
        with progress.job(name, weight) as on_done, self._kept(OUTPUTS, cell.outputs_key, name, on_done) as kept:
            with phase_peak(self.device) as peak:
                kept.peak = peak.so_far
                outputs = evaluated(evaluator, cell, on_done, kept)
            outputs |= {"seconds": kept.seconds, "peak_memory": kept.most}
            with self.stages.create(OUTPUTS, cell.outputs_key) as folder:
                (folder / "outputs.json").write_text(json.dumps(outputs, allow_nan=False))

    def score(self, cell: Cell) -> Record:
        """Score a cell's stored outputs and write its record; needs no model.

        Raises:
            RuntimeError: its outputs are not stored.
        """
        folder = self.stages.load(OUTPUTS, cell.outputs_key)
        if folder is None:
            raise RuntimeError("the cell has no stored outputs")
        outputs = json_value(file_bytes(folder / "outputs.json"))
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
