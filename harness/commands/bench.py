"""`harness bench`: measurements side by side with what people use today."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from harness.bench import benchmark
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.bench.measure import Row


def bench_command(name: str, as_json: bool, **choices: object) -> None:
    """Run one benchmark and print its rows as they come, or all of them as JSON.

    Raises:
        HarnessError: no such benchmark, or an option that it cannot take.
    """
    measure = benchmark(name)
    from harness.bench.measure import Options, machine

    try:
        options = Options.model_validate({key: value for key, value in choices.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise HarnessError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}.") from None
    device = machine("cpu") | {"clock": options.clock}
    if not as_json:
        typer.echo(", ".join(f"{key} {value}" for key, value in device.items()))
    draw = getattr(import_module(measure.__module__), "draw", None)
    if options.plot is not None and draw is None:
        raise HarnessError(f"--plot: the benchmark {name} draws nothing; leave it out, or choose scaling or plans.")
    rows: list[Row] = []
    for row in measure(options):
        rows.append(row)
        if not as_json:
            typer.echo(line(row))
    if options.plot is not None and draw is not None:
        draw(rows, options.plot)
    if as_json:
        found = {"machine": device, "model": options.model, "rows": [row.model_dump() for row in rows]}
        typer.echo(json.dumps(found, indent=2))


def line(row: Row) -> str:
    """One row in words."""
    medians = f"medians of {len(row.seconds)} turns {row.median:.2f} s and {row.peer_median:.2f} s ({row.peer})"
    limit = "" if row.limit is None else f", arithmetic {row.limit:.2f}x"
    value = f"{row.median:.2f} s" if row.kind == "seconds" else f"{row.ratio:.2f}x{limit}"
    first = f"{row.name}: {value}{aim(row)}"
    return "\n  ".join(part for part in (first, medians, row.setting, row.agreement) if part)


def aim(row: Row) -> str:
    """The target and whether it was reached, in words; empty without one."""
    if row.target is None:
        return ""
    bound = "at least" if row.kind == "speed-up" else "at most"
    unit = " s" if row.kind == "seconds" else "x"
    return f" (target {bound} {row.target:g}{unit}: {'reached' if row.reached else 'missed'})"
