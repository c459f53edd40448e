"""`harness run`: resolve, plan, execute, report."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.commands.report import rendered
from harness.config import RunConfig, resolve
from harness.errors import UserError, unknown
from harness.executors import EXECUTORS, execute
from results.digest import digest

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.plan import Plan


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
                raise UserError(f"--seeds takes whole numbers, not '{','.join(self.seeds)}'.") from error
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


def run_command(request: RunRequest) -> None:
    """Run what was asked for; exit code 1 when a cell failed."""
    config = resolve(request.preset, request.overrides(), request.sets)
    run_config(config, request)


def run_config(config: RunConfig, request: RunRequest) -> Path:
    """Run a resolved configuration; returns the run's folder."""
    from harness.engine import Engine
    from harness.plan import Plan
    from harness.progress import Progress
    from harness.sources import open_source
    from results.schema import PlannedCell, RunInfo
    from results.store import RunFolder, StoreError

    if request.executor not in EXECUTORS:
        raise unknown("executor", request.executor, EXECUTORS)
    quiet_libraries()
    plan = Plan(config, open_source(config.data))
    folder = request.output or Path("results/runs") / default_name(config)
    info = RunInfo(
        name=folder.name,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        arguments=request.arguments,
        config=config.model_dump(mode="json"),
        cells=[
            PlannedCell(cell=cell.key, method=cell.spec.method, task=cell.spec.task, seed=cell.seed)
            for cell in plan.cells
        ],
    )
    try:
        run = RunFolder(folder, info) if request.plan_only else RunFolder.create(folder, info)
        engine = Engine(plan, stage_store(), run, request.arguments)
        if request.plan_only:
            show_plan(plan, engine)
            return folder
        announce(plan)
        jobs = engine.jobs()
        with Progress(sum(job.seconds for job in jobs)).shown() as progress:
            records = execute(engine, progress, request.executor)
    except StoreError as error:
        raise UserError(str(error)) from error
    typer.echo(rendered(folder, "comparison", ["latex", "md", "csv"]))
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        typer.echo(f"failed: {record.spec.method} on {record.spec.task}: {record.error}", err=True)
    if failed:
        raise typer.Exit(1)
    return folder


def stage_store() -> Any:
    """The user's stage store, shared by runs: `$HARNESS_STAGES`, else `stages` in the cache."""
    from harness.assets import cache_root
    from results.stages import Stages

    return Stages(Path(os.environ.get("HARNESS_STAGES") or cache_root() / "stages"))


def default_name(config: RunConfig) -> str:
    """A folder name that says what the run is; equal configurations share it and so resume."""
    return f"{config.preset}-{digest(config.model_dump(mode='json'), 8)}"


def announce(plan: Plan) -> None:
    """Say per task where its rows come from, before anything runs."""
    for task in plan.tasks:
        bound = task.bound
        typer.echo(f"{task.display}: {len(bound.eval_docs())} items from {bound.source} ({bound.origin})", err=True)


def show_plan(plan: Plan, engine: Engine) -> None:
    """Print cells, what is cached, and what the rest will cost."""
    from harness import estimate
    from harness.progress import duration

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
    left = f"{len(plan.cells)} cells, {len(jobs)} jobs left"
    typer.echo(f"{left}: about {total} and {memory:.1f} GiB on {engine.device}.")


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
