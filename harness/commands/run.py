"""`harness run`: plan, compute, print the comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import typer

from harness.planning.options import RunOptions, configuration
from results.ground.collecting import paused
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.planning.graph import Schedule
    from harness.planning.plan import Cell
    from harness.runs import Run
    from results.schema import Record


@dataclass(frozen=True)
class Execution:
    """Where and how a command computes its run: see `harness.planning.options.ExecutionOptions`.

    Attributes:
        plan: show cells and an estimate instead.
    """

    executor: str = "local"
    plan: bool = False
    track: str | None = None
    workers: int | None = None
    sbatch: str | None = None
    dry_run: bool = False

    def check(self) -> None:
        """Raises:
        HarnessError: there is no such executor, or something is said that means nothing with it.
        """
        from harness.executors import LOCAL, SHARED, SLURM
        from harness.planning.graph import check_workers
        from harness.runs import check_executor

        if self.executor != SLURM:
            check_executor(self.executor)
        if self.executor == SHARED:
            raise HarnessError(f"--executor {SHARED} takes part in a run that is planned: harness run --into RUN.")
        if self.workers is not None:
            check_workers(self.workers)
        if self.executor != SLURM and (self.sbatch is not None or self.dry_run):
            raise HarnessError(f"--sbatch and --dry-run are for --executor {SLURM}: leave them out.")
        if self.executor == SLURM and not self.plan and self.workers is None:
            raise HarnessError(f"--executor {SLURM} needs the number of processes: --workers N.")
        several = self.executor == SLURM or (self.executor == LOCAL and (self.workers or 1) > 1)
        if self.track is not None and several:
            raise HarnessError("--track follows one process, and several are asked for: leave it out.")


def run_command(
    preset: str | None,
    into: Path | None,
    output: Path | None,
    anew: bool,
    execution: Execution,
    arguments: Sequence[str],
    **options: Unpack[RunOptions],
) -> None:
    """Run what was asked for and print its comparison; exit code 1 when a cell failed.

    Raises:
        HarnessError: a mistake, found before anything runs.
    """
    from harness.commands.report import rendered
    from harness.executors import SHARED
    from harness.planning.variants import Variant, of_run
    from harness.runs import Run

    if execution.executor == SHARED:
        taken = replace(execution, executor="local")
        if into is None or options or preset is not None or output is not None or anew or taken != Execution():
            raise HarnessError(f"--executor {SHARED} takes all of a run from --into RUN: leave every other option out.")
        run = Run.open(into, arguments=arguments)
        # Several processes end at once: the table is for whoever asks for it then.
        report_failures(run, run.compute(SHARED))
        return
    if into is not None:
        if preset is not None or output is not None or anew:
            raise HarnessError(
                "--into takes settings and folder from the run: leave out --preset, --output, --replace."
            )
        variants, output = of_run(into, options), into
    else:
        variants = [Variant(configuration("quick" if preset is None else preset, options))]
    with paused():
        run = Run.start(variants, output, arguments=arguments, replace=anew, fetch=not execution.plan)
    records = computed(run, execution)
    if records is None:
        return
    if any(record.status == "done" for record in records):
        typer.echo(rendered(run.path, "comparison", ["latex", "md", "csv"]))
    report_failures(run, records)


def computed(run: Run, execution: Execution) -> list[Record] | None:
    """The records of a run once everything is computed; None after `--plan`, which computes and writes nothing, and
    where others compute it."""
    from harness.executors import LOCAL, RAY, SLURM
    from harness.planning.brought import of_another_base

    execution.check()
    observer = None
    if execution.track is not None:
        from harness.tracking.observer import Observer
        from harness.tracking.tracker import tracker

        observer = Observer(tracker(execution.track), execution.track)
    if execution.plan:
        show_plan(run, execution.workers)
        return None
    for name, bound in run.tasks().items():
        typer.echo(f"{name}: {len(bound.eval_docs())} items from {bound.source} ({bound.origin})", err=True)
    for sentence in dict.fromkeys(sentence for plan in run.plans for sentence in of_another_base(plan)):
        typer.echo(sentence, err=True)
    for sentence, cells in run.faults.items():
        typer.echo(f"{sentence} Refused for it: {_places(cells)}.", err=True)
    for cell in run.renewed():
        typer.echo(f"{cell.method} on {cell.task}: planned anew, versions or data have changed.", err=True)
    if execution.executor == SLURM:
        from harness.executors.slurm import submit

        if run.units():
            typer.echo(submit(run, execution.workers or 1, execution.sbatch or "", dry_run=execution.dry_run))
            return None
        return run.compute()
    if execution.executor == LOCAL and execution.workers is not None and observer is None:
        from harness.executors.several import several

        return several(run, execution.workers)
    workers = execution.workers if execution.executor == RAY else None
    return run.compute(execution.executor, observer=observer, workers=workers)


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


@paused()
def show_plan(run: Run, workers: int | None = None) -> None:
    """Print cells, what is cached, and what the rest will cost: altogether, and spread over some workers."""
    from harness.planning import graph
    from harness.planning.controls import left_out
    from harness.planning.room import megabytes, room
    from harness.progress import duration

    backlogs = [engine.backlog.now() for engine in run.engines]
    for engine, backlog in zip(run.engines, backlogs, strict=True):
        lines = list(left_out(engine.plan.methods, engine.plan.config))
        for cell in engine.plan.cells:
            state = backlog.state(cell)
            lines.append(f"{cell.key}  {cell.spec.method:24} {cell.spec.task:14} seed {cell.seed}  {state}")
        left = [one for one in graph.units([(backlog, engine.facts.seconds)]) if one.kind != graph.SCORE]
        for (label, seconds), times in Counter((unit.label, unit.seconds) for unit in left).items():
            lines.append(f"  {label:40} {f'{times} times ' if times > 1 else ''}about {duration(seconds)}")
        typer.echo("\n".join(lines))
        memory = engine.facts.memory / 2**30
        total = duration(sum(unit.seconds for unit in left))
        tokens = sum(unit.tokens for unit in left)
        counted = f"{len(engine.plan.cells)} cells, {len(left)} jobs left"
        typer.echo(f"{counted}: about {tokens:,.0f} tokens, {total} and {memory:.1f} GiB on {engine.device}.")
    if workers is not None:
        typer.echo(_spread(graph.schedule(run.units(), workers)))
    typer.echo(f"On disk: about {megabytes(room(backlogs).total)}.")


def _spread(schedule: Schedule) -> str:
    from harness.progress import duration

    share = schedule.idle / (schedule.workers * schedule.makespan) if schedule.makespan else 0.0
    workers = "one worker" if schedule.workers == 1 else f"{schedule.workers:,} workers"
    return (
        f"On {workers} like this one: about {duration(schedule.makespan)}, of which they are idle "
        f"{share:.0%} ({duration(schedule.idle)} together); the longest chain of units is "
        f"{duration(schedule.critical)}. Loading models and scoring are not in it."
    )
