"""`harness make-crossdomain`: question sets that need two domains at once, written by a generator model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from harness.planning.config import deep_merge, nest, parse_set
from results.ground.errors import HarnessError


def make_command(kind: str, n: int, output: Path | None, sets: list[str]) -> None:
    """Make or finish a set and say where it is.

    Raises:
        HarnessError: unknown kind, wrong settings, no key, or another set in the folder.
    """
    from pydantic import ValidationError

    from harness.planning.sources import made_sets_folder
    from tasks.crossdomain import GeneratorConfig, make_crossdomain
    from tasks.judge import check

    settings: dict[str, Any] = {}
    for text in sets:
        key, value = parse_set(text)
        settings = deep_merge(settings, nest(key, value))
    try:
        config = GeneratorConfig.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise HarnessError(f"The generator's setting {where} is wrong: {problem['msg']}.") from error
    check(config)
    made = make_crossdomain(kind, n, output or made_sets_folder(), config, progress=_progress)
    typer.echo(str(made.folder))
    if made.missing is not None:
        typer.echo(f"incomplete: {made.missing}", err=True)
        raise typer.Exit(1)


def _progress(kept: int, wanted: int) -> None:
    typer.echo(f"{kept} of {wanted} questions", err=True)
