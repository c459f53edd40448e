"""`harness bench`: measurements side by side with what people use today."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from pydantic import ValidationError

from harness.bench import ON_DEVICES, benchmark
from results.ground.errors import HarnessError
from results.ground.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from harness.bench.measure import Options, Row


def bench_command(name: str, as_json: bool, output: Path | None = None, **choices: object) -> None:
    """Run one benchmark and print its rows as they come, or all of them as JSON.

    Args:
        name: of the benchmark.
        as_json: whether JSON is printed.
        output: file that gets the same JSON, anew with every row, so that what was measured outlives a later row.
        choices: the options that were given, by their names in `Options`; None where one was not.

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
    options = placed(name, options)
    device = machine(options.device) | {"clock": options.clock, "dtype": options.dtype}
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
        if output is not None:
            write_json(output, figures(options, device, rows))
    if options.plot is not None and draw is not None:
        draw(rows, options.plot)
    if as_json:
        typer.echo(json.dumps(figures(options, device, rows), indent=2))


def placed(name: str, options: Options) -> Options:
    """The options with a device that is there.

    Raises:
        HarnessError: it is not; or the benchmark measures on the processor alone, or processor seconds elsewhere.
    """
    from harness.bench.measure import Options
    from harness.models import resolve_device

    usual = Options()
    for option in ("device", "dtype", "random_weights"):
        if name not in ON_DEVICES and getattr(options, option) != getattr(usual, option):
            raise HarnessError(
                f"--{option.replace('_', '-')}: the benchmark {name} measures on the processor, in float32 and with "
                f"the model's own weights; leave it out, or choose {', '.join(ON_DEVICES)}."
            )
    device = resolve_device(options.device)
    if device != "cpu" and options.clock == "cpu":
        raise HarnessError("--clock: the processor's seconds say nothing about another device; leave it out.")
    return options.model_copy(update={"device": device})


def figures(options: Options, device: dict[str, str | int | float], rows: list[Row]) -> dict[str, Any]:
    """What is stored of a benchmark: the machine, what was chosen, and the rows."""
    chosen = {"model": options.model, "device": options.device.partition(":")[0], "dtype": options.dtype}
    weights = {"weights": "random"} if options.random_weights else {}
    return {"machine": device, **chosen, **weights, "rows": [row.model_dump() for row in rows]}


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
