"""`harness export`: a composed model of a finished run as a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def export_command(
    path: Path,
    method: str,
    task: str | None,
    seed: int | None,
    variant: str | None,
    output: Path,
    form: str,
    refer: bool,
    train: bool,
) -> None:
    """Write what a run composed, and say how to load it; see `harness.export.export`."""
    from harness.runs import Run

    run = Run.open(path, arguments=sys.argv[1:])
    made = run.export(method, output, task=task, seed=seed, variant=variant, form=form, refer=refer, train=train)  # type: ignore[arg-type]
    typer.echo(made.how_to_load())
