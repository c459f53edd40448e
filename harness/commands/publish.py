"""`harness publish`: a run on the hub, or in a folder what would be pushed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.sharing.publish import Repository


def publish_command(
    path: Path,
    to: str | None,
    method: str | None,
    task: str | None,
    seed: int | None,
    variant: str | None,
    form: str,
    public: bool,
    dry_run: Path | None,
) -> None:
    """Write what is published, and push it unless `dry_run`; see `harness.sharing.publish`.

    Raises:
        HarnessError: it cannot be published; nothing was pushed.
    """
    from harness.sharing.publish import Model, check_online, push, stage

    if to is None:
        raise HarnessError("Say where: --to ORG/NAME for the hub, or --slim DIR for a folder without texts.")
    model = None if method is None else Model(method, task, seed, variant, form)  # type: ignore[arg-type]
    if dry_run is not None:
        _say(stage(path, to, dry_run, model), dry_run, f"would be pushed, {'public' if public else 'private'}")
        return
    check_online()
    with tempfile.TemporaryDirectory(prefix="harness-publish-") as scratch:
        made = stage(path, to, Path(scratch) / "staged", model)
        push(made, public=public)
        _say(made, Path(scratch) / "staged", f"{'public' if public else 'private'}")


def slim_command(path: Path, folder: Path, given: Mapping[str, object]) -> None:
    """Write a run without texts; see `harness.sharing.slim`.

    Args:
        given: the options of publishing, which have nothing to say here.

    Raises:
        HarnessError: it cannot be written, or something is to be pushed too.
    """
    from harness.sharing.slim import write_slim

    if named := [option for option, value in given.items() if value is not None]:
        raise HarnessError(f"--slim writes a folder and pushes nothing: leave {' and '.join(named)} out.")
    run = write_slim(path, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    typer.echo(f"{folder}: {len(run.records())} cells without texts, {size / 1e6:.2f} MB")


def _say(made: Sequence[Repository], root: Path, how: str) -> None:
    for one in made:
        typer.echo(f"{one.url} ({how}):")
        for file in one.files:
            typer.echo(f"  {file.relative_to(root)}  {file.stat().st_size / 1e6:.2f} MB")
