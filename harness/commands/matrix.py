"""`harness matrix`: every expert of a pool alone on every task, beside the base model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import typer

from harness.commands.run import Execution, computed, report_failures
from harness.planning.options import ROWS, RunOptions, configuration
from results.ground.errors import HarnessError


def matrix_command(
    preset: str,
    formats: Sequence[str],
    output: Path | None,
    replace: bool,
    execution: Execution,
    arguments: Sequence[str],
    **options: Unpack[RunOptions],
) -> None:
    """Compute what is missing and print the table and where it and its picture are; exit code 1 when a cell failed.

    Raises:
        HarnessError: a mistake, found before anything runs.
    """
    from harness.commands.report import rendered
    from harness.planning.variants import Variant
    from harness.runs import Run
    from methods import registry

    for name in ROWS:
        if options.get(name):
            flag = f"--{name.replace('_', '-')}"
            raise HarnessError(f"A matrix has the base and each expert alone as its rows: leave {flag} out.")
    pool = configuration(preset, {**options, "methods": ["base"]}).experts.names
    rows = ["base", *(registry.display("lora", {"expert": name}) for name in pool)]
    config = configuration(preset, {**options, "methods": rows})
    run = Run.start([Variant(config)], output, arguments=arguments, replace=replace, fetch=not execution.plan)
    records = computed(run, execution)
    if records is None:
        return
    if any(record.status == "done" for record in records):
        typer.echo(rendered(run.path, "matrix", list(formats)))
    report_failures(run, records)
