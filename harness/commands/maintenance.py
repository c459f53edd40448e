"""`harness fetch`, `check`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import typer

from results.ground.errors import HarnessError
from results.ground.names import unknown


def fetch_command() -> None:
    """Download, check, unpack and convert every bundled asset, but for models that are fetched only when named."""
    from harness.assets import ASSETS, asset_folder
    from harness.models import BUNDLED, bundled_model_folder, quiet_libraries

    quiet_libraries()
    for asset in ASSETS.values():
        typer.echo(f"{asset.name} {asset.version} ({asset.licence}): {asset_folder(asset.name)}")
    for name, model in BUNDLED.items():
        if not model.on_demand:
            typer.echo(f"{name}: {bundled_model_folder(name)}")


def fetch_models(names: Sequence[str], accepted: Sequence[str]) -> None:
    """Fetch and convert the models of some names.

    Args:
        names: of bundled models.
        accepted: names of the terms that the user accepts.
    """
    from harness.models import quiet_libraries
    from harness.wheels.keeping import fetch_model

    quiet_libraries()
    for name in names:
        typer.echo(f"{name}: {fetch_model(name, accepted, typer.echo)}")


def check_command(name: str | None, data: str) -> None:
    """Run the conformance suite; exit code 1 when something fails.

    Args:
        name: a method or task; None for all.
        data: the source whose rows tasks are checked on.

    Raises:
        HarnessError: no method or task has that name, there is no such source, or it lacks the task.
    """
    from harness.models import quiet_libraries
    from harness.planning.plugins import named
    from harness.planning.sources import open_source
    from methods import conformance as method_conformance
    from methods import registry as methods
    from tasks import registry as tasks

    if name is not None:
        name = named(name)
    if name is not None and name not in methods.names() and name not in tasks.names():
        raise unknown("method or task", name, [*methods.names(), *tasks.names()])
    quiet_libraries()
    if name is None or name in tasks.names():
        open_source(data)  # a mistake there is said once, not once a task
    failures = 0
    for method in methods.names() if name is None else [n for n in [name] if n in methods.names()]:
        for on in _architectures(method):
            failures += _checked(
                f"method {method} on {on}",
                lambda method=method, on=on: method_conformance.check(method, architecture=on),
                name is not None,
            )
    for task in tasks.names() if name is None else [n for n in [name] if n in tasks.names()]:
        failures += _checked(f"task {task}", lambda task=task: _check_task(task, data), name is not None)
    if failures:
        raise typer.Exit(1)


def _architectures(method: str) -> list[str]:
    """Tiny models that a method is checked on; the usual one where it cannot even be created, which that check says."""
    from methods import conformance

    try:
        return conformance.architectures(method)
    except Exception:  # an installed package's class may raise anything
        return ["llama"]


def _checked(label: str, suite, asked_for: bool) -> int:  # type: ignore[no-untyped-def]
    from tasks.base import TaskUnavailable

    started = time.perf_counter()
    try:
        note = suite()
    except TaskUnavailable as error:
        if asked_for:
            raise
        typer.echo(f"skipped {label}: {error}")
        return 0
    except Exception as error:
        if asked_for and isinstance(error, HarnessError):
            raise
        typer.echo(f"FAILED  {label}: {type(error).__name__}: {error}")
        return 1
    typer.echo(f"ok      {label} ({time.perf_counter() - started:.1f} s){f': {note}' if note else ''}")
    return 0


def _check_task(name: str, data: str) -> str:
    from harness.planning.sources import open_source
    from tasks import conformance, registry
    from tasks.base import TaskSettings

    bound = registry.create(name).bind(open_source(data), TaskSettings(limit=50))
    conformance.check(bound)
    shared = [sentence.rstrip(".") for sentence in bound.deviations if "as published" in sentence]
    if bound.groups:
        shared.append(f"{len(bound.groups):,} items in {len(set(bound.groups.values())):,} groups that share a text")
    return "; ".join([f"{len(bound.parts['eval'])} items from {bound.source} ({bound.origin})", *shared])
