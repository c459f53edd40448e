"""`harness rescore`: stored outputs scored again, without a model."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from harness.commands.report import rendered
from harness.commands.run import quiet_libraries, stage_store
from harness.config import parse_set, validate, with_setting
from results.ground.errors import HarnessError
from results.ground.names import unknown


def rescore_command(path: Path, task: str, sets: list[str]) -> None:
    """Score one task of a run again and replace its records.

    Cells whose specification changes (another judge is another cell) get new records; the run's plan follows.

    Raises:
        HarnessError: no such run or task in it, no stored outputs, or scoring is not possible.
    """
    from harness.engine import Engine, LoadedModels
    from harness.plan import Plan
    from harness.sources import open_source
    from results.schema import PlannedCell
    from results.store import RunFolder

    quiet_libraries()
    run = RunFolder.open(path)
    values = dict(run.info.config)
    for text in sets:
        key, value = parse_set(text)
        values = with_setting(values, key, value)
    config = validate(values)
    if task not in config.tasks:
        raise unknown("task of this run", task, config.tasks)
    plan = Plan(config, open_source(config.data))
    engine = Engine(plan, stage_store(), run, sys.argv[1:], LoadedModels())
    rescored = [cell for cell in plan.cells if cell.spec.task == task and cell.refusal is None]
    missing = [cell for cell in rescored if not engine.stages.find("outputs", cell.outputs_key)]
    if missing:
        raise HarnessError(f"The outputs of {missing[0].spec.method} on {task} are not stored: run it again first.")
    planned = [
        PlannedCell(cell=cell.key, method=cell.spec.method, task=cell.spec.task, seed=cell.seed) for cell in plan.cells
    ]
    info = run.info.model_copy(update={"config": config.model_dump(mode="json"), "cells": planned})
    run = RunFolder.create(path, info)
    engine.run = run
    with run.lock():
        for cell in rescored:
            engine.score(cell)
    typer.echo(f"{len(rescored)} cells of {task} scored again.")
    typer.echo(rendered(path, "comparison", ["latex", "md", "csv"]))
