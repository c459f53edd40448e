"""Running a plan: experts, composition, evaluation and scoring, each stage found or computed and stored."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import estimate
from harness.config import ModelSection
from harness.plan import Cell, ExpertPlan, Plan
from harness.progress import Progress
from harness.provenance import phase_peak
from harness.records import failed_record, scored_record
from results.ground.errors import HarnessError
from results.schema import Record
from results.stages import Stages
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.evaluate import Evaluator
    from harness.models import BaseModel
    from harness.session import TrainingData
    from methods.base import Composed

EXPERT, COMPOSED, OUTPUTS = "expert", "composed", "outputs"


@dataclass(frozen=True)
class Job:
    """One unit of the progress display."""

    label: str
    seconds: float
    tokens: float


class LoadedModels:
    """The base model of a run, loaded when first needed; another one takes its place when a variant asks for it."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._base: BaseModel | None = None

    def load(self, section: ModelSection, device: str) -> BaseModel:
        """The base model of a configuration."""
        key = (section.name, section.revision, section.dtype, section.trust_remote_code, device)
        if self._base is None or key != self._key:
            from harness import models

            self._base = None
            self._base = models.load(
                section.name,
                revision=section.revision,
                dtype=section.dtype,
                device=device,
                trust=section.trust_remote_code,
            )
            self._key = key
        return self._base


class Engine:
    """Computes what a run's folder is missing. The base model is loaded only if something needs it."""

    def __init__(
        self, plan: Plan, stages: Stages, run: RunFolder, arguments: Sequence[str], models: LoadedModels
    ) -> None:
        self.plan = plan
        self.stages = stages
        self.run = run
        self.arguments = list(arguments)
        self.device = resolve_device(plan.config.model.device)
        self._models = models
        self._data: TrainingData | None = None
        self._origins = {name: Engine(origin, stages, run, arguments, models) for name, origin in plan.origins.items()}

    @property
    def base(self) -> BaseModel:
        """The base model, loaded on first use."""
        return self._models.load(self.plan.config.model, self.device)

    @property
    def data(self) -> TrainingData:
        """Encoded training rows, made on first use."""
        if self._data is None:
            from harness.session import TrainingData

            self._data = TrainingData(self.plan, self.base)
        return self._data

    def missing_experts(self) -> list[ExpertPlan]:
        """Experts that some unfinished composition needs and no stage holds, in pool order, one base model after
        the other."""
        needed: dict[str, ExpertPlan] = {}
        for cell in self.pending():
            if not self.stages.find(OUTPUTS, cell.outputs_key):
                needed |= {expert.key: expert for expert in cell.pool if expert.path is None}
        missing = [expert for key, expert in needed.items() if not self.stages.find(EXPERT, key)]
        return sorted(missing, key=lambda expert: expert.origin or "")

    def missing_fits(self) -> list[Cell]:
        """Cells that take the fit of another base model, one for each that no stage holds."""
        needed: dict[tuple[str, int], Cell] = {}
        for cell in self.pending():
            if cell.origin is not None and cell.refusal is None and not self.stages.find(OUTPUTS, cell.outputs_key):
                needed.setdefault((cell.compose_key, cell.seed), cell)
        return [cell for cell in needed.values() if self._lacks_fit(cell)]

    def _lacks_fit(self, cell: Cell) -> bool:
        return cell.method.method.trains() and not self.stages.find(COMPOSED, cell.compose_key)

    def fit_origin(self, cell: Cell, progress: Progress) -> None:
        """Fit, on the base model that a cell takes its fit from, what no stage holds."""
        assert cell.origin is not None
        assert cell.method.origin is not None
        with self._origins[cell.method.origin].composed(cell.origin, progress):
            pass

    def pending(self) -> list[Cell]:
        """Cells without a finished record."""
        return [cell for cell in self.plan.cells if not self.run.finished(cell.key)]

    def refuse(self) -> None:
        """Write the records of cells that make no sense here (a task without an expert in the `lora` row)."""
        for cell in self.pending():
            if cell.refusal is not None:
                self.run.write_cell(failed_record(self, cell, cell.refusal, "refused"), [])

    def groups(self) -> list[list[Cell]]:
        """Pending cells in groups of one composed model each: it is installed once for all its tasks."""
        pending = sorted((cell for cell in self.pending() if cell.refusal is None), key=self._order)
        return [list(group) for _, group in groupby(pending, key=lambda cell: (cell.compose_key, cell.seed))]

    def _order(self, cell: Cell) -> tuple[int, int, int]:
        first = next(i for i, other in enumerate(self.plan.cells) if other.compose_key == cell.compose_key)
        return first, self.plan.config.seeds.index(cell.seed), self.plan.cells.index(cell)

    def train_expert(self, expert: ExpertPlan, progress: Progress) -> None:
        from harness.experts import train_expert

        if expert.origin is not None:
            self._origins[expert.origin].train_expert(replace(expert, origin=None), progress)
            return
        section = self.plan.config.experts
        weight = self.seconds(estimate.expert_work(self.plan, self.plan.expert_tasks(expert.name)))
        with progress.job(f"expert {expert.name} (seed {expert.seed})", weight) as on_step:
            rows = self.data.expert_rows(expert.name, expert.seed)
            started = time.perf_counter()
            meta: dict[str, Any] = {"expert": expert.name, "tasks": expert.tasks, "seed": expert.seed}
            with self.stages.create(EXPERT, expert.key) as folder:
                log = train_expert(
                    self.base,
                    rows,
                    section,
                    name=expert.name,
                    seed=expert.seed,
                    folder=folder,
                    on_step=on_step,
                )
                meta |= {"seconds": time.perf_counter() - started, "tokens": log.tokens, "log": log.steps}
                (folder / "meta.json").write_text(json.dumps(meta))

    def compute(self, cells: list[Cell], progress: Progress) -> None:
        """Evaluate and score one group of cells; a failure becomes their record."""
        from harness.evaluate import Evaluator
        from methods.base import Unsupported

        unevaluated = [cell for cell in cells if not self.stages.find(OUTPUTS, cell.outputs_key)]
        failure: str | None = None
        if unevaluated:
            try:
                with self.composed(unevaluated[0], progress) as composed:
                    batch = self.plan.config.eval.batch_tokens
                    evaluator = Evaluator(self.base, composed, batch, unevaluated[0].seed)
                    for cell in unevaluated:
                        self._evaluate(cell, evaluator, progress)
            except Exception as error:
                if isinstance(error, HarnessError) and not isinstance(error, Unsupported):
                    raise
                failure = f"{type(error).__name__}: {error}".splitlines()[0]
                (self.run.path / "failures.log").open("a").write(f"{cells[0].spec.method}\n{traceback.format_exc()}\n")
        for cell in cells:
            if self.stages.find(OUTPUTS, cell.outputs_key):
                self.score(cell)
            else:
                self.run.write_cell(failed_record(self, cell, failure or "not evaluated", "failed"), [])

    @contextmanager
    def composed(self, cell: Cell, progress: Progress) -> Iterator[Composed]:
        """The composed model of a cell, fitted or loaded; the base is proved clean again afterwards."""
        from harness.probe import clean_base

        if cell.origin is not None and self._lacks_fit(cell):
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
        from harness.experts import outside_folder

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
        from harness.session import EngineSession
        from harness.tuning import trial_scales, tuned_fit

        weight = self.seconds(estimate.fit_work(self.plan, cell.method.method))
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
                "method": cell.spec.method,
            }
            with self.stages.create(COMPOSED, cell.compose_key) as folder:
                composed.save(folder)
                (folder / "meta.json").write_text(json.dumps(meta))

    def _evaluate(self, cell: Cell, evaluator: Evaluator, progress: Progress) -> None:
        from harness.evaluate import evaluate

        weight = self.seconds(estimate.evaluation_work(cell))
        with progress.job(f"{cell.spec.method} on {cell.spec.task} (seed {cell.seed})", weight) as on_done:
            started = time.perf_counter()
            with phase_peak(self.device) as peak:
                outputs = evaluate(evaluator, cell, on_done)
            outputs |= {"seconds": time.perf_counter() - started, "peak_memory": peak.bytes}
            with self.stages.create(OUTPUTS, cell.outputs_key) as folder:
                (folder / "outputs.json").write_text(json.dumps(outputs))

    def score(self, cell: Cell) -> Record:
        """Score a cell's stored outputs and write its record; needs no model."""
        folder = self.stages.find(OUTPUTS, cell.outputs_key)
        if folder is None:
            raise RuntimeError("the cell has no stored outputs")
        record, items = scored_record(self, cell, json.loads((folder / "outputs.json").read_text()))
        self.run.write_cell(record, items)
        return record

    def costs(self, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
        """Seconds, tokens and log of the stages behind a cell: its experts together, and its fit."""
        experts: dict[str, Any] = {"seconds": 0.0, "tokens": 0}
        for expert in cell.pool:
            if self.stages.find(EXPERT, expert.key):
                meta = self.stages.meta(EXPERT, expert.key)
                experts["seconds"] += meta["seconds"]
                experts["tokens"] += meta["tokens"]
        fit: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "log": [], "trials": []}
        if self.stages.find(COMPOSED, cell.compose_key):
            fit |= self.stages.meta(COMPOSED, cell.compose_key)
        return experts, fit

    @property
    def model_label(self) -> str:
        """The base model's name for table notes."""
        from harness.models import resolve

        return resolve(self.plan.config.model.name)[1]

    def seconds(self, work: estimate.Work) -> float:
        """Estimated seconds of some work on this machine."""
        return work.equivalent / self.pace

    @property
    def pace(self) -> float:
        """Forward tokens a second, measured once with a matrix product."""
        if not hasattr(self, "_pace"):
            self._parameters = estimate.parameter_count(self.plan.model_config)
            self._pace = estimate.tokens_per_second(self._parameters, self.device)
        return self._pace

    @property
    def parameters(self) -> int:
        """Parameters of the base model."""
        _ = self.pace
        return self._parameters

    def jobs(self) -> list[Job]:
        """What is left to compute, with estimated seconds and tokens."""
        work: list[tuple[str, estimate.Work]] = [
            (f"expert {expert.name}", estimate.expert_work(self.plan, self.plan.expert_tasks(expert.name)))
            for expert in self.missing_experts()
        ]
        fitted: set[str] = set()
        for cell in self.pending():
            if cell.refusal is not None or self.stages.find(OUTPUTS, cell.outputs_key):
                continue
            if self._lacks_fit(cell) and cell.compose_key not in fitted:
                fitted.add(cell.compose_key)
                work.append((f"fit {cell.spec.method}", estimate.fit_work(self.plan, cell.method.method)))
            work.append((f"{cell.spec.method} on {cell.spec.task}", estimate.evaluation_work(cell)))
        return [Job(label, self.seconds(one), one.forward + one.trained + one.generated) for label, one in work]


def resolve_device(name: str) -> str:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises:
        HarnessError: a device that torch does not see.
    """
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise HarnessError(f"The device '{name}' is not available here: choose --device cpu or auto.") from error
    return name
