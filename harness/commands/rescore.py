"""`harness rescore`: stored outputs scored again, without a model."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from harness.commands.report import rendered


def rescore_command(path: Path, task: str, sets: list[str]) -> None:
    """Score one task of a run again, say how many cells that were, and print the table; see `Run.rescore`."""
    from harness.runs import Run

    count = Run.open(path, arguments=sys.argv[1:]).rescore(task, sets)
    typer.echo(f"{count} cells of {task} scored again.")
    typer.echo(rendered(path, "comparison", ["latex", "md", "csv"]))
