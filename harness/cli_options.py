"""What the parts of the command line share: kinds of options, lists, and completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

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


def commas(text: str | None) -> list[str] | None:
    """Split at commas outside brackets: `mixer[a=1,b=2],mole` is two methods."""
    if text is None:
        return None
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += char
    return [part for part in [*parts, current.strip()] if part]
