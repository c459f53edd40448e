"""`harness reproduce` and `harness ablate`: from an entry of the catalogue to cells, to a table or plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import typer

from harness.commands.run import Execution, computed, report_failures
from harness.planning.options import RunOptions, configuration
from results.ground.errors import HarnessError


def reproduce_command(
    name: str,
    preset: str,
    formats: Sequence[str],
    values: str | None,
    output: Path | None,
    replace: bool,
    execution: Execution,
    arguments: Sequence[str],
    **options: Unpack[RunOptions],
) -> None:
    """Plan the missing cells of one entry (or of all), run them, render.

    All entries together end in one page, the reproduction report, rather than in one each.

    Raises:
        HarnessError: no such entry, one that does not vary what `values` are for, or nothing of it can be measured
            here.
    """
    from harness.commands.arguments import numbers
    from harness.planning import experiments
    from harness.planning.variants import Variant
    from harness.runs import Run
    from methods import registry
    from reports import api, catalogue

    chosen = experiments.chosen_entries(name, options, None if values is None else numbers(values, int))
    base = configuration(preset, options)
    here = experiments.context(base.data, base.model.name, options.get("transfer_from", ""))
    variants: list[Variant] = []
    renderable = []
    for one in chosen:
        found = catalogue.availability(one, here)
        if found.state == "not" and one.methods:
            typer.echo(f"{one.name}: not measured here. {found.reason}", err=True)
            continue
        renderable.append(one)
        if found.reason and one.methods:
            typer.echo(f"{one.name}: {found.reason}", err=True)
        variants += experiments.variants(one, preset, options, here)
    folder = output or Path("results/runs") / f"{name}-{preset}"
    if renderable and not any(one.methods for one in renderable):
        _print([path for one in renderable for path in api.counted(one, folder / "reports", formats)])
        return
    if not variants:
        raise HarnessError(f"Nothing of {name} can be measured with this data and model: see `harness list tables`.")
    run = Run.start(variants, folder, arguments=arguments, replace=replace, fetch=not execution.plan)
    records = computed(run, execution)
    if records is None:
        return
    paths: list[Path] = []
    if any(record.status == "done" for record in records):
        whole = name == experiments.ALL
        single = [form for form in formats if form != api.HTML] if whole else formats
        names = [(one.name, single) for one in renderable] + ([(api.REPRODUCTION, formats)] if whole else [])
        for table, forms in names:
            paths += api.render(run.path, table, forms, registry.names(), here)
    _print(paths)
    report_failures(run, records)


def _print(paths: Sequence[Path]) -> None:
    """The Markdown of what was written, and where everything is."""
    for path in paths:
        if path.suffix == ".md":
            typer.echo(path.read_text())
    for path in paths:
        typer.echo(str(path))
