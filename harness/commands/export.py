"""`harness export`: a composed model of a finished run as a folder to load anywhere, or as an ordinary adapter."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.commands.run import quiet_libraries, stage_store
from results.ground.errors import HarnessError
from results.ground.loading import auto_class_name, peft_task_type
from results.ground.names import unknown

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.plan import Cell
    from harness.progress import Progress

FORMS = ("composed", "peft")


def export_command(
    path: Path, method: str, task: str | None, seed: int | None, output: Path, form: str, refer: bool
) -> None:
    """Write what a run composed, from its stored stages; nothing is trained.

    Only cells of the configuration that `run.yaml` holds are known, which is the first one of a run that varies
    something.

    Args:
        path: the run.
        method: display name in the run.
        task: for methods that are fitted for each task; default all tasks (`composed`).
        seed: default the run's first.
        output: the new folder.
        form: `composed` or `peft`.
        refer: keep hashes of the experts instead of copies.

    Raises:
        HarnessError: something is not in the run or no longer stored, or the method is no single adapter.
    """
    from harness import models
    from harness.config import validate
    from harness.engine import Engine, LoadedModels
    from harness.plan import Plan
    from harness.progress import Progress
    from harness.sources import open_source
    from results.store import RunFolder

    if form not in FORMS:
        raise unknown("form", form, FORMS)
    quiet_libraries()
    run = RunFolder.open(path)
    config = validate(run.info.config)
    plan = Plan(config, open_source(config.data))
    engine = Engine(plan, stage_store(), run, sys.argv[1:], LoadedModels())
    cells = _cells(engine, method, task, config.seeds[0] if seed is None else seed)
    progress = Progress(1.0, io.StringIO())
    if form == "peft":
        _write_adapter(engine, cells, output, progress)
    else:
        _write_composed(engine, cells, output, progress, refer)
    kind = auto_class_name(plan.model_config)
    base = f"{kind}.from_pretrained({models.resolve(config.model.name)[0]!r})"
    typer.echo(_how_to_load(cells, output, form, base))


def _cells(engine: Engine, method: str, task: str | None, seed: int) -> list[Cell]:
    """One cell for each fit that is asked for, all of whose stages are stored."""
    plan = engine.plan
    choice = next((one for one in plan.methods if one.display == method), None)
    if choice is None:
        raise unknown("method of this run", method, [one.display for one in plan.methods])
    if seed not in plan.config.seeds:
        raise HarnessError(f"This run has no seed {seed}: choose from {', '.join(map(str, plan.config.seeds))}.")
    per_task = choice.method.per_task()
    if task is not None and task not in plan.config.tasks:
        raise unknown("task of this run", task, plan.config.tasks)
    if task is not None and not per_task:
        raise HarnessError(f"{method} has one fit for all tasks: leave --task out.")
    found = [cell for cell in plan.cells if cell.spec.method == method and cell.seed == seed]
    found = [cell for cell in found if task in (None, cell.spec.task)]
    usable = [cell for cell in found if cell.refusal is None]
    if not usable:
        raise HarnessError(f"There is nothing of {method} to export: {found[0].refusal}.")
    for cell in usable:
        lost = [expert.name for expert in cell.pool if not expert.path and not engine.stages.find("expert", expert.key)]
        if lost:
            raise HarnessError(f"The expert {lost[0]} of this run is not stored: continue it with `harness run` first.")
        if choice.method.trains() and not engine.stages.find("composed", cell.compose_key):
            raise HarnessError(f"The fit of {method} is not stored: continue the run with `harness run` first.")
    return usable if per_task else usable[:1]


def _write_composed(engine: Engine, cells: list[Cell], output: Path, progress: Progress, refer: bool) -> None:
    from harness import models
    from methods import saving

    config = engine.plan.config
    location, _ = models.resolve(config.model.name)
    for cell in cells:
        method = cell.method.method
        sources = {
            plan.name: saving.Source(engine.expert_folder(plan), plan.path or f"expert stage {plan.key}")
            for plan in cell.pool
        }
        pool = [engine.expert(plan) for plan in cell.pool]
        with engine.composed(cell, progress) as composed:
            saving.save(
                output,
                composed,
                method,
                pool,
                seed=cell.seed,
                base=config.model.name,
                location=location,
                revision=engine.plan.model_revision,
                task=cell.task.bound.name if method.per_task() else None,
                own=cell.task.own,
                sources=sources,
                refer=refer,
            )
    engine.base.tokenizer.save_pretrained(output)


def _write_adapter(engine: Engine, cells: list[Cell], output: Path, progress: Progress) -> None:
    from harness import models
    from methods.base import Unsupported
    from methods.experts import save_expert

    (cell, *others) = cells
    if others:
        tasks = ", ".join(one.spec.task for one in cells)
        raise HarnessError(f"{cell.spec.method} has a fit for each task: choose one with --task ({tasks}).")
    if output.is_dir() and any(output.iterdir()):
        raise HarnessError(f"The folder {output} is not empty: choose another --output.")
    base, _ = models.resolve(engine.plan.config.model.name)
    with engine.composed(cell, progress) as composed:
        try:
            merged = composed.merged(cell.spec.method)
        except Unsupported as error:
            raise HarnessError(f"{cell.spec.method} is no ordinary adapter: {error}; leave --as out.") from error
        save_expert(merged, output, base_model=base, task_type=peft_task_type(engine.plan.model_config))


def _how_to_load(cells: list[Cell], output: Path, form: str, base: str) -> str:
    """What was written, and the lines that load it.

    Args:
        base: an expression that loads the base model.
    """
    cell = cells[0]
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file()) / 1e6
    said = f"{cell.spec.method} (seed {cell.seed}) is in {output}, {size:.1f} MB."
    if form == "peft":
        lines = [
            f"from peft import PeftModel; from transformers import {base.partition('.')[0]}",
            f"model = PeftModel.from_pretrained({base}, {str(output)!r})",
        ]
    else:
        task = f", task={cell.task.bound.name!r}" if len(cells) > 1 else ""
        lines = [
            "import methods; from transformers import AutoTokenizer",
            f"model = methods.load({str(output)!r}{task}); tokenizer = AutoTokenizer.from_pretrained({str(output)!r})",
            'model.generate(**tokenizer("Once", return_tensors="pt"), max_new_tokens=20)',
        ]
    return "\n".join([said, "", *(f"    {line}" for line in lines)])
