"""`harness report`, `compare`: from records alone, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from results.ground.collecting import paused

if TYPE_CHECKING:
    from reports.panel import Options
    from reports.render.options import TableOptions


def report_command(
    run: Path, table: str, formats: list[str], options: TableOptions, asked: Options, methods: Sequence[str] = ()
) -> None:
    """Render one table of a run, of some of its methods alone where they are named, print it and the paths written.

    Raises:
        HarnessError: no such run, table, format, row, column, method or metric.
    """
    typer.echo(rendered(run, table, formats, options, asked, methods))


def rendered(
    run: Path,
    table: str,
    formats: list[str],
    options: TableOptions | None = None,
    asked: Options | None = None,
    methods: Sequence[str] = (),
) -> str:
    """Write a table in the given formats; the comparison's or the matrix' text for the terminal, then the paths.

    Raises:
        HarnessError: no such run, table, format, row or column.
    """
    from methods import registry
    from reports import api
    from reports.plots.figure import Figure

    shown = options or api.DEFAULT
    api.check_formats(formats)
    with paused():
        opened = replace(api.Run.open(run), only=tuple(methods))
        whole = api.build_report(opened, table, registry.names(), asked=asked)
        paths = api.render_report(opened, whole, table, formats, registry.names(), shown)
        in_words = table in ("comparison", "matrix", "routing")
        text = [api.terminal_text(whole, shown)] if in_words and not isinstance(whole, Figure) else []
    return "\n".join([*text, *map(str, paths)])


def compare_command(runs: list[Path], methods: list[str] | None, asked: Options) -> None:
    """Print paired comparisons between methods.

    Raises:
        HarnessError: no such run, or method or metric in it.
    """
    from reports import api

    with paused():
        text = api.compare_text(runs, methods, asked)
    typer.echo(text)
