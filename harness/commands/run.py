"""`harness run`: plan, compute, print the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import typer

from harness.planning.options import RunOptions, configuration
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.planning.plan import Cell
    from harness.runs import Run
    from results.schema import Record


def run_command(
    preset: str | None,
    into: Path | None,
    output: Path | None,
    executor: str,
    replace: bool,
    track: str | None,
    plan_only: bool,
    arguments: Sequence[str],
    **options: Unpack[RunOptions],
) -> None:
    """Run what was asked for and print its comparison; exit code 1 when a cell failed.

    Raises:
        HarnessError: a mistake, found before anything runs.
    """
    from harness.commands.report import rendered
    from harness.planning.variants import Variant, of_run
    from harness.runs import Run

    if into is not None:
        if preset is not None or output is not None or replace:
            raise HarnessError(
                "--into takes settings and folder from the run: leave out --preset, --output, --replace."
            )
        variants, output = of_run(into, options), into
    else:
        variants = [Variant(configuration("quick" if preset is None else preset, options))]
    run = Run.start(variants, output, arguments=arguments, replace=replace, fetch=not plan_only)
    records = computed(run, executor, track, plan_only)
    if records is None:
        return
    if any(record.status == "done" for record in records):
        typer.echo(rendered(run.path, "comparison", ["latex", "md", "csv"]))
    report_failures(run, records)


def computed(run: Run, executor: str, track: str | None, plan_only: bool) -> list[Record] | None:
    """The records of a run once everything is computed; None after `--plan`, which computes and writes nothing."""
    from harness.planning.brought import of_another_base
    from harness.runs import check_executor

    check_executor(executor)
    observer = None
    if track is not None:
        from harness.tracking.observer import Observer
        from harness.tracking.tracker import tracker

        observer = Observer(tracker(track), track)
    if plan_only:
        show_plan(run)
        return None
    for name, bound in run.tasks().items():
        typer.echo(f"{name}: {len(bound.eval_docs())} items from {bound.source} ({bound.origin})", err=True)
    for sentence in dict.fromkeys(sentence for plan in run.plans for sentence in of_another_base(plan)):
        typer.echo(sentence, err=True)
    for sentence, cells in run.faults.items():
        typer.echo(f"{sentence} Refused for it: {_places(cells)}.", err=True)
    for cell in run.renewed():
        typer.echo(f"{cell.method} on {cell.task}: planned anew, versions or data have changed.", err=True)
    return run.compute(executor, observer=observer)


def report_failures(run: Run, records: Sequence[Record]) -> None:
    """Name failed cells, those refused for their rows, and all refused ones where nothing is done, on standard error;
    exit code 1 if there are any."""
    from harness.failures import FAILURES

    own = run.own(records)
    nothing = not any(record.status == "done" for record in own)
    failed = [record for record in own if record.status == "failed" or record.error in run.faults]
    for record in own if nothing else failed:
        typer.echo(f"{record.status}: {record.spec.method} on {record.spec.task}: {record.error}", err=True)
    if failed and (run.path / FAILURES).exists():
        typer.echo(f"The whole of it is in {run.path / FAILURES}.", err=True)
    if failed or nothing:
        raise typer.Exit(1)


def _places(cells: Sequence[Cell]) -> str:
    """Methods and tasks of cells, each pair once whatever its seeds; of many, the first six."""
    pairs = dict.fromkeys(f"{cell.spec.method} on {cell.spec.task}" for cell in cells)
    shown = list(pairs)[:6]
    rest = len(pairs) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def show_plan(run: Run) -> None:
    """Print cells, what is cached, and what the rest will cost."""
    from harness.planning import estimate
    from harness.planning.controls import left_out
    from harness.planning.room import megabytes
    from harness.progress import duration

    for engine in run.engines:
        for sentence in left_out(engine.plan.methods, engine.plan.config):
            typer.echo(sentence)
        for cell in engine.plan.cells:
            state = engine.backlog.state(cell)
            typer.echo(f"{cell.key}  {cell.spec.method:24} {cell.spec.task:14} seed {cell.seed}  {state}")
        jobs = engine.backlog.jobs(engine.facts.seconds)
        for job in jobs:
            typer.echo(f"  {job.label:40} about {duration(job.seconds)}")
        memory = estimate.memory_bytes(engine.facts.parameters, engine.plan.config.model.dtype) / 2**30
        total = duration(sum(job.seconds for job in jobs))
        tokens = sum(job.tokens for job in jobs)
        left = f"{len(engine.plan.cells)} cells, {len(jobs)} jobs left"
        typer.echo(f"{left}: about {tokens:,.0f} tokens, {total} and {memory:.1f} GiB on {engine.device}.")
    typer.echo(f"On disk: about {megabytes(run.room().total)}.")
