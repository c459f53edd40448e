"""`harness verify`: whether a run is what was written, and whether it comes out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.planning.options import RunOptions


def verify_command(path: Path, recompute: int | None, seed: int, places: RunOptions) -> None:
    """Print what does not fit together in a run and in the stages behind it; exit code 1 when something does not.

    Args:
        path: the run's folder.
        recompute: cells to compute again; None for none.
        seed: chooses them.
        places: where rows and experts of those cells lie here, if not where the run says.

    Raises:
        HarnessError: no run, a half-written or newer one, no cell that could be computed again, or places for none.
    """
    from harness.planning.stores import stage_store
    from results.behind import behind
    from results.store import RunFolder

    if places and recompute is None:
        raise HarnessError(f"--{next(iter(places))} is for cells that are computed again: say --recompute N too.")
    folder = RunFolder.open(path)
    problems = folder.verify()
    stages = behind(folder.info, stage_store())
    problems += stages.problems()
    for problem in problems:
        typer.echo(problem)
    if recompute is not None:
        for problem in _recomputed(path, recompute, seed, places):
            typer.echo(problem)
            problems.append(problem)
    named = len(stages.whole) + len(stages.gone) + len(stages.faults)
    kept = f"{named - len(stages.gone)} of {named} stages stored"
    cells = len({cell.cell for cell in folder.info.cells})
    typer.echo(f"{cells} cells, {folder.failed()} failed; {kept}, {len(stages.faults)} damaged; {_counted(problems)}.")
    if problems:
        raise typer.Exit(1)


def _recomputed(path: Path, n: int, seed: int, places: RunOptions) -> Iterator[str]:
    from harness.evaluation.again import again
    from harness.planning.variants import here
    from harness.runs import Run

    done = again(Run(path, here(path, places)), n, seed)
    yield from done.differences
    for sentence in done.rounded:
        typer.echo(sentence)
    verdict = "see above" if done.differences else "equal but for rounding" if done.rounded else "equal"
    typer.echo(f"{len(done.cells)} of {done.eligible} cells computed again (seed {seed}): {verdict}.")
    for hardware in done.elsewhere if done.differences or done.rounded else ():
        typer.echo(f"Records were made on {hardware}.")


def _counted(problems: list[str]) -> str:
    return f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
