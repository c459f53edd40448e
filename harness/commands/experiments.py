"""`harness reproduce` and `harness ablate`: from an entry of the catalogue to cells, to a table or plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.commands.run import RunRequest, Variant, compute, report_failures
from harness.config import deep_merge, dotted_keys, load_preset, nest, resolve
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from reports.catalogue import Context, Entry, Need

ALL = "all"


def reproduce_command(name: str, request: RunRequest, formats: list[str]) -> None:
    """Plan the missing cells of one entry (or of all), run them, render.

    All entries together end in one page, the reproduction report, rather than in one each.

    Raises:
        HarnessError: no such entry, or nothing of it can be measured here.
    """
    from reports import api, catalogue

    chosen = _entries(name)
    if request.transfer_from is not None:
        chosen = [one.taken_from(request.transfer_from) for one in chosen]
    base = request.config()
    here = context(base.data, base.model.name, request.transfer_from or "")
    variants: list[Variant] = []
    renderable: list[Entry] = []
    for one in chosen:
        found = catalogue.availability(one, here)
        if found.state == "not" and one.methods:
            typer.echo(f"{one.name}: not measured here. {found.reason}", err=True)
            continue
        renderable.append(one)
        if found.reason and one.methods:
            typer.echo(f"{one.name}: {found.reason}", err=True)
        variants += configurations(one, request, here)
    folder = request.output or Path("results/runs") / f"{name}-{request.preset}"
    if not variants:
        raise HarnessError(f"Nothing of {name} can be measured with this data and model: see `harness list tables`.")
    records = compute(variants, request, folder)
    if records is None:
        return
    single = [form for form in formats if form != api.HTML] if name == ALL else formats
    paths = []
    for one in renderable:
        paths += api.render(folder, one.name, single, _order(), here)
    if name == ALL:
        paths += api.render(folder, api.REPRODUCTION, formats, _order(), here)
    for path in paths:
        if path.suffix == ".md":
            typer.echo(path.read_text())
    for path in paths:
        typer.echo(str(path))
    report_failures(records)


def configurations(one: Entry, request: RunRequest, here: Context) -> list[Variant]:
    """What an entry needs of what is at hand: one configuration for each value that it varies."""
    from reports import catalogue

    missing = catalogue.availability(one, here).missing
    needs = one.needs(scaled=_is_scaled(request.preset))
    return [Variant(_config(need, missing, request), need.variant) for need in needs]


def context(data: str, model: str, transfer_from: str = "") -> Context:
    """What is at hand, for the catalogue: registered methods, tasks of a kind of source, the models."""
    from methods import registry as methods
    from reports.catalogue import Context
    from tasks import registry as tasks

    kind = data if data in ("bundled", "hub") else "dir"
    available = frozenset(name for name in tasks.names() if kind in tasks.card(name).sources)
    return Context(
        methods=frozenset(methods.names()),
        tasks=available,
        model=model,
        transfer_from=transfer_from,
        source="the bundled data" if kind == "bundled" else "the hub" if kind == "hub" else f"the directory {data}",
    )


def _entries(name: str) -> Sequence[Entry]:
    from reports import catalogue

    if name == ALL:
        return list(catalogue.entries())
    return [catalogue.entry(name)]


def _config(need: Need, missing: Any, request: RunRequest) -> Any:
    """The run's configuration with an entry's settings below what the user set."""
    run_keys = set(dotted_keys_of_run())
    settings: dict[str, Any] = {}
    method_sets: list[str] = []
    for key, value in need.settings.items():
        if key in run_keys:
            settings = deep_merge(settings, nest(key, value))
        else:
            method_sets.append(f"{key}={value}")
    overrides = deep_merge(settings, request.overrides())
    overrides["methods"] = [method for method in need.methods if method not in missing]
    overrides["tasks"] = [task for task in need.tasks if task not in missing]
    return resolve(request.preset, overrides, [*_applicable(method_sets, overrides["methods"]), *request.all_sets()])


def _applicable(sets: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """An entry's method settings, addressed to the methods that have the key."""
    from methods import registry

    addressed = []
    for text in sets:
        key, _, value = text.partition("=")
        for method in chosen:
            name, _inline = registry.parse(method)
            if key in registry.config_keys(name):
                addressed.append(f"methods.{name}.{key}={value}")
    return list(dict.fromkeys(addressed))


def dotted_keys_of_run() -> list[str]:
    """Keys that `--set` takes for the run itself."""
    from harness.config import RunConfig

    return dotted_keys(RunConfig)


def _is_scaled(preset: str) -> bool:
    """Whether a preset's budget is far below the paper's: its experts see a limited number of tokens."""
    return load_preset(preset)["experts"].get("tokens") is not None


def _order() -> list[str]:
    from methods import registry

    return registry.names()
