"""The table of measured figures, from the JSON of the commands: `python -m harness.bench.table FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.bench.measure import Options

HEAD = "| what | against | measured | arithmetic | target | command |\n| --- | --- | ---: | ---: | ---: | --- |"


def table(folder: Path) -> str:
    """Markdown, one line per row with a target; files in alphabetical order, those of the usual model on the processor
    first, and those of other devices last."""
    lines = [HEAD]
    found = [(file.stem.partition("-")[0], json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))]
    for name, figures in sorted(found, key=lambda one: (bool(chosen(one[1], "device")), bool(chosen(one[1], "model")))):
        options = "".join(chosen(figures, option) for option in ("model", "device", "dtype"))
        options += " --random-weights" if figures.get("weights") == "random" else ""
        lines += [line(row, name + options) for row in figures["rows"] if row["target"] is not None]
    return "\n".join(lines)


def chosen(figures: Mapping[str, Any], option: str) -> str:
    """What a command line says of an option; empty where stored figures were measured at its default."""
    usual = getattr(Options(), option)
    value = figures.get(option, usual)
    return "" if value == usual else f" --{option} {value}"


def line(row: Mapping[str, Any], command: str) -> str:
    """One row; a missed target is said so."""
    bound = "at least" if row["kind"] == "speed-up" else "at most"
    unit = " s" if row["kind"] == "seconds" else "x"
    value = row["median"] if row["kind"] == "seconds" else row["ratio"]
    limit = "—" if row["limit"] is None else f"{row['limit']:.2f}x"
    taken = f", {row['memory']:.2f} GiB" if row.get("memory") else ""
    missed = "" if row["reached"] else " (missed)"
    cells = (
        row["name"],
        row["peer"],
        f"{value:.2f}{unit}{missed}{taken}",
        limit,
        f"{bound} {row['target']:g}{unit}",
        f"`harness bench {command}`",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])) + "\n")
