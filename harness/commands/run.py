"""`harness run`, and what every command that computes cells shares: plan, execute, report."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.choices import TRANSFER
from harness.commands.report import rendered
from harness.config import RunConfig, resolve
from results.ground.digest import digest
from results.ground.errors import HarnessError
from results.ground.names import unknown

if TYPE_CHECKING:
    from harness.engine import Engine
    from results.schema import Record


@dataclass(frozen=True)
class RunRequest:
    """The options of one `harness run`, as passed."""

    preset: str = "quick"
    methods: list[str] | None = None
    tasks: list[str] | None = None
    model: str | None = None
    data: str | None = None
    seeds: list[str] | None = None
    experts: list[str] | None = None
    shots: int | None = None
    limit: int | None = None
    sets: list[str] = field(default_factory=list)
    transfer_from: str | None = None
    tune: bool = False
    executor: str = "local"
    device: str | None = None
    output: Path | None = None
    min_isolation: str | None = None
    plan_only: bool = False
    arguments: list[str] = field(default_factory=list)

    def overrides(self) -> dict[str, Any]:
        """Named options as nested configuration values."""
        values: dict[str, Any] = {}
        top = {
            "methods": self.methods,
            "tasks": self.tasks,
            "data": self.data,
            "tune": self.tune or None,
            "min_isolation": self.min_isolation,
        }
        values |= {key: value for key, value in top.items() if value is not None}
        if self.seeds is not None:
            try:
                values["seeds"] = [int(seed) for seed in self.seeds]
            except ValueError as error:
                raise HarnessError(f"--seeds takes whole numbers, not '{','.join(self.seeds)}'.") from error
        model = {"name": self.model, "device": self.device}
        values["model"] = {key: value for key, value in model.items() if value is not None}
        if self.experts is not None:
            split = [text.partition("=") for text in self.experts]
            values["experts"] = {
                "names": [name for name, _, _ in split],
                "paths": {name: path for name, _, path in split if path},
            }
        values["eval"] = {}
        if self.shots is not None:
            values["eval"]["shots"] = self.shots
        if self.limit is not None:
            values["eval"] |= {"limit": self.limit, "generative_limit": self.limit}
        return values

    def config(self) -> RunConfig:
        """The resolved configuration.

        Raises:
            HarnessError: a mistake in it.
        """
        return resolve(self.preset, self.overrides(), self.all_sets())

    def all_sets(self) -> list[str]:
        """Settings as `key=value`, those with an option of their own included."""
        moved = [] if self.transfer_from is None else [f"{TRANSFER}={json.dumps(self.transfer_from)}"]
        return [*moved, *self.sets]


@dataclass(frozen=True)
class Variant:
    """One configuration of a run, and the label that its cells carry (empty for a plain run)."""

    config: RunConfig
    label: str = ""


def run_command(request: RunRequest) -> None:
    """Run what was asked for and print its comparison; exit code 1 when a cell failed."""
    from harness.models import with_targets

    config = with_targets(request.config())
    folder = request.output or Path("results/runs") / default_name(config)
    records = compute([Variant(config)], request, folder)
    if records is None:
        return
    typer.echo(rendered(folder, "comparison", ["latex", "md", "csv"]))
    report_failures(records)


def compute(variants: Sequence[Variant], request: RunRequest, folder: Path) -> list[Record] | None:
    """Compute every cell of some configurations into one run folder.

    Returns:
        The records of the whole run; None after `--plan`, which computes and writes nothing.

    Raises:
        HarnessError: a mistake, found before anything runs.
    """
    from harness.engine import Engine, LoadedModels
    from harness.executors import EXECUTORS, execute
    from harness.plan import Plan
    from harness.progress import Progress
    from harness.sources import open_source
    from results.schema import PlannedCell, RunInfo
    from results.store import RunFolder

    if request.executor not in EXECUTORS:
        raise unknown("executor", request.executor, EXECUTORS)
    quiet_libraries()
    plans = [(Plan(variant.config, open_source(variant.config.data)), variant.label) for variant in variants]
    info = RunInfo(
        name=folder.name,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        arguments=request.arguments,
        config=plans[0][0].config.model_dump(mode="json"),
        cells=[
            PlannedCell(cell=c.key, method=c.spec.method, task=c.spec.task, seed=c.seed, variant=label)
            for plan, label in plans
            for c in plan.cells
        ],
    )
    run = RunFolder(folder, info) if request.plan_only else RunFolder.create(folder, info)
    models = LoadedModels()
    engines = [Engine(plan, stage_store(), run, request.arguments, models) for plan, _ in plans]
    if request.plan_only:
        for engine in engines:
            show_plan(engine)
        return None
    for task in {task.display: task for engine in engines for task in engine.plan.tasks}.values():
        bound = task.bound
        typer.echo(f"{task.display}: {len(bound.eval_docs())} items from {bound.source} ({bound.origin})", err=True)
    total = sum(job.seconds for engine in engines for job in engine.jobs())
    with run.lock(), Progress(total).shown() as progress:
        for engine in engines:
            execute(engine, progress, request.executor)
    return run.records()


def report_failures(records: Sequence[Record]) -> None:
    """Name failed cells on standard error and end with exit code 1 if there are any."""
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        typer.echo(f"failed: {record.spec.method} on {record.spec.task}: {record.error}", err=True)
    if failed:
        raise typer.Exit(1)


def stage_store() -> Any:
    """The user's stage store, shared by runs: `$HARNESS_STAGES`, else `stages` in the cache."""
    from harness.assets import cache_root
    from results.stages import Stages

    return Stages(Path(os.environ.get("HARNESS_STAGES") or cache_root() / "stages"))


def default_name(config: RunConfig) -> str:
    """A folder name that says what the run is; equal configurations share it and so resume."""
    return f"{config.preset}-{digest(config.model_dump(mode='json'), 8)}"


def show_plan(engine: Engine) -> None:
    """Print cells, what is cached, and what the rest will cost."""
    from harness import estimate
    from harness.progress import duration

    plan = engine.plan
    for cell in plan.cells:
        if cell.refusal:
            state = f"no: {cell.refusal}"
        elif engine.run.finished(cell.key):
            state = "finished"
        else:
            state = "outputs cached" if engine.stages.find("outputs", cell.outputs_key) else "to do"
        typer.echo(f"{cell.key}  {cell.spec.method:24} {cell.spec.task:14} seed {cell.seed}  {state}")
    jobs = engine.jobs()
    for job in jobs:
        typer.echo(f"  {job.label:40} about {duration(job.seconds)}")
    memory = estimate.memory_bytes(engine.parameters, plan.config.model.dtype) / 2**30
    total = duration(sum(job.seconds for job in jobs))
    tokens = sum(job.tokens for job in jobs)
    left = f"{len(plan.cells)} cells, {len(jobs)} jobs left"
    typer.echo(f"{left}: about {tokens:,.0f} tokens, {total} and {memory:.1f} GiB on {engine.device}.")


def quiet_libraries() -> None:
    """Stop progress bars and advice of the libraries underneath; their errors still show."""
    import logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import datasets
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
