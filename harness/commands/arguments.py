"""What the parts of the command line share: kinds of options, lists, and completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from results.ground.errors import HarnessError
from results.ground.names import commas, shown
from results.ground.places import place

N = TypeVar("N", int, float)

GROUPS = ("Compare", "Look at a run", "Take away", "Know what there is", "This installation")
"""The groups of `harness --help`."""
COMPARE, LOOK, SHARE, KNOW, INSTALLATION = GROUPS
OTHER = "Other commands"
SENTENCE = 200
WIDEST = 18


class Grouped(TyperGroup):
    """Commands that `--help` shows in the groups of their `rich_help_panel`, as plain text."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, in the order of `GROUPS`; others after them."""
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                groups.setdefault(panel if isinstance(panel, str) else OTHER, []).append(
                    (name, command.get_short_help_str(SENTENCE))
                )
        for group, rows in groups.items():
            if not rows:
                continue
            with formatter.section(group):
                formatter.write_dl(rows, col_max=WIDEST)


def check_argument(text: str) -> None:
    """See that an argument is a text, so that it can be stored and printed.

    Raises:
        HarnessError: its bytes are no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HarnessError(f"The argument {shown(text)} is not in UTF-8: give names and paths that are.") from None


def completion(kind: str) -> Callable[[str], list[str]]:
    """Shell completion over the names of a kind."""

    def complete(incomplete: str) -> list[str]:
        from harness.commands.listing import completions

        return completions(kind, incomplete)

    return complete


RunPath = Annotated[
    Path,
    typer.Argument(help="Folder of a run, e.g. results/runs/NAME.", parser=place, autocompletion=completion("runs")),
]
SeveralRuns = Annotated[
    list[Path],
    typer.Argument(help="Folders of one run or several.", parser=place, autocompletion=completion("runs")),
]
NewFolder = Annotated[Path, typer.Option(help="New folder.", parser=place)]
Formats = Annotated[
    str,
    typer.Option("--format", help="Comma-separated: latex, md, csv, html.", autocompletion=completion("formats")),
]
ScaledPreset = Annotated[
    str,
    typer.Option(help="Preset; quick and smoke scale the paper's budgets down.", autocompletion=completion("presets")),
]
Values = Annotated[
    str | None,
    typer.Option(help="Of what varies, comma-separated, e.g. 32,128,512; default the paper's, scaled like the preset."),
]

Against = Annotated[
    str | None,
    typer.Option(
        help="Method to set against each other one, or all for every pair; default the first that routes.",
        autocompletion=completion("opponents"),
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="Instead of each task's own, e.g. gold_logprob, gold_margin, f1, mcc.",
        autocompletion=completion("metrics"),
    ),
]
Margin = Annotated[float | None, typer.Option(help="Difference that counts as none, in points; default 1.")]


def listed(text: str | None) -> list[str] | None:
    """The names in an option's text; None where it was not given. See `results.ground.names.commas`."""
    return None if text is None else commas(text)


def numbers(text: str, kind: type[N]) -> list[N]:
    """The numbers in an option's text.

    Raises:
        HarnessError: something in it is none.
    """
    try:
        return [kind(part) for part in commas(text)]
    except ValueError as error:
        raise HarnessError(f"{text!r} holds something that is no {'whole ' if kind is int else ''}number.") from error
