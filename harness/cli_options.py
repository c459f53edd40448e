"""What the parts of the command line share: kinds of options, lists, and completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from results.ground.names import commas

RunPath = Annotated[Path, typer.Argument(help="Folder of a run, e.g. results/runs/NAME.")]
Formats = Annotated[str, typer.Option("--format", help="Comma-separated: latex, md, csv, html.")]


def completion(kind: str) -> Callable[[str], list[str]]:
    """Shell completion over the names of a kind."""

    def complete(incomplete: str) -> list[str]:
        from harness.commands.listing import completions

        return completions(kind, incomplete)

    return complete


ScaledPreset = Annotated[
    str,
    typer.Option(help="Preset; quick and smoke scale the paper's budgets down.", autocompletion=completion("presets")),
]


def listed(text: str | None) -> list[str] | None:
    """The names in an option's text; None where it was not given. See `results.ground.names.commas`."""
    return None if text is None else commas(text)
