"""`harness report`, `compare`, `verify`: from records alone, without torch."""

from __future__ import annotations

from pathlib import Path

import typer

from harness.errors import UserError


def report_command(run: Path, table: str, formats: list[str]) -> None:
    """Render one table of a run and print the paths written.

    Raises:
        UserError: no such run, table or format.
    """
    from reports import api
    from results.store import StoreError

    try:
        paths = api.render(run, table, formats)
        if table == "comparison":
            typer.echo(api.comparison_text(run))
    except (StoreError, api.ReportError) as error:
        raise UserError(str(error)) from error
    for path in paths:
        typer.echo(str(path))


def compare_command(run: Path, methods: list[str] | None) -> None:
    """Print paired comparisons between methods.

    Raises:
        UserError: no such run or method in it.
    """
    from reports import api
    from results.store import StoreError

    try:
        typer.echo(api.compare_text(run, methods))
    except (StoreError, api.ReportError) as error:
        raise UserError(str(error)) from error


def verify_command(run: Path) -> None:
    """Print what does not fit together in a run; exit code 1 when something does not."""
    from results.store import RunFolder, StoreError

    try:
        folder = RunFolder.open(run)
        problems = folder.verify()
    except StoreError as error:
        raise UserError(str(error)) from error
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{len(folder.info.cells)} cells, {len(problems)} problems.")
    if problems:
        raise typer.Exit(1)
