"""`harness merge` and `harness clean`: whole runs, and the stages behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from results.pruning import Entry


def merge_command(paths: Sequence[Path], output: Path) -> None:
    """Join several runs into a new one, and print its table.

    Raises:
        HarnessError: they do not fit together, or the folder is taken.
    """
    from harness.commands.report import rendered
    from results.merging import merge

    merged = merge(paths, output)
    records = merged.records()
    done = sum(record.status == "done" for record in records)
    typer.echo(f"{output}: {len(merged.info.cells)} planned cells of {len(paths)} runs, {done} finished.")
    if done:
        typer.echo(rendered(output, "comparison", ["latex", "md", "csv"]))


def clean_command(
    older_than: str | None, max_size: str | None, runs: Sequence[Path], keep: Sequence[Path], delete: bool
) -> None:
    """Show what the stage store holds, and what would go; delete it if told to.

    Raises:
        HarnessError: a wrong age or size, or a folder that is no run.
    """
    from harness.planning.stores import stage_store
    from results import pruning
    from results.partial import PARTIAL

    stages = stage_store()
    found = pruning.entries(stages)
    if stages.remote:
        typer.echo(f"This is {stages.root}; what {stages.address} behind it holds goes by rules of the bucket's own.")
    kinds: dict[str, list[Entry]] = {}
    for entry in found:
        whole = entry.finished or entry.kind == PARTIAL
        kinds.setdefault(entry.kind if whole else f"{entry.kind}, cut off", []).append(entry)
    for kind, own in kinds.items():
        typer.echo(f"{kind:20} {len(own):6}  {_megabytes(own)}")
    typer.echo(f"{'all':20} {len(found):6}  {_megabytes(found)}")
    if older_than is None and max_size is None and not runs:
        if delete:
            typer.echo("Nothing is deleted: say what may go with --older-than, --max-size or --run.", err=True)
        return
    going = pruning.chosen(
        found,
        older_than=None if older_than is None else pruning.seconds(older_than),
        max_bytes=None if max_size is None else pruning.size(max_size),
        of=set().union(*map(pruning.stages_of, runs)) if runs else None,
        keep=set().union(*map(pruning.stages_of, keep)),
    )
    if delete:
        pruning.remove(going)
    typer.echo(f"{len(going)} {'deleted' if delete else 'would go (add --delete)'}: {_megabytes(going)}")


def _megabytes(found: Sequence[Entry]) -> str:
    return f"{sum(entry.bytes for entry in found) / 1e6:,.1f} MB"
