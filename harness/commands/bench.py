"""`harness bench`: measurements side by side with what people use today."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from harness.bench import benchmark
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.bench.measure import Row


def bench_command(name: str, as_json: bool, **choices: object) -> None:
    """Run one benchmark and print its rows as they come, or all of them as JSON.

    Raises:
        UserError: no such benchmark, or an option that it cannot take.
    """
    measure = benchmark(name)
    from harness.bench.measure import Options, machine

    try:
        options = Options.model_validate({key: value for key, value in choices.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}.") from None
    device = machine("cpu") | {"clock": options.clock}
    if not as_json:
        typer.echo(", ".join(f"{key} {value}" for key, value in device.items()))
    rows: list[Row] = []
    for row in measure(options):
        rows.append(row)
        if not as_json:
            typer.echo(line(row))
    if as_json:
        typer.echo(json.dumps({"machine": device, "rows": [row.model_dump() for row in rows]}, indent=2))


def line(row: Row) -> str:
    """One row in words."""
    verdict = "reached" if row.reached else "missed"
    medians = f"medians of {len(row.seconds)} turns {row.median:.2f} s and {row.peer_median:.2f} s ({row.peer})"
    if row.kind == "seconds":
        first = f"{row.name}: {row.median:.2f} s (target {row.target:g} s: {verdict})"
    else:
        limit = "" if row.limit is None else f", arithmetic {row.limit:.2f}x"
        bound = "at most" if row.kind == "overhead" else "at least"
        first = f"{row.name}: {row.ratio:.2f}x{limit} (target {bound} {row.target:g}x: {verdict})"
    return "\n  ".join(part for part in (first, medians, row.setting, row.agreement) if part)
