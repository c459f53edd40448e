"""`harness show`: what is known about one name, whatever kind of thing it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from harness.commands.listing import names, unavailable
from results.ground.names import unknown

if TYPE_CHECKING:
    from reports.catalogue import Entry


def show_command(name: str) -> None:
    """Print what is known about one name, or about what a file brings along.

    Raises:
        HarnessError: nothing has that name.
    """
    from harness.planning.plugins import named

    name = named(name)
    for kind, show in _SHOWS.items():
        if name in names(kind):
            show(name)
            return
    raise unknown("name", name, names("shown"))


def _show_method(name: str) -> None:
    from methods import registry

    card = registry.card(name)
    typer.echo(f"{name} ({card.track} track): {card.summary}\n")
    typer.echo(card.sentence())
    if card.label:
        typer.echo(f"Rows of it read '{card.label}'. {card.note}")
    if card.paper:
        typer.echo(f"Source: {card.paper}")
    typer.echo(f"\n{card.body().strip()}")
    keys = registry.config_keys(name)
    if keys:
        typer.echo("\nConfiguration keys and their defaults:")
        for key, value in keys.items():
            typer.echo(f"  {key} = {value}")


def _show_task(name: str) -> None:
    from tasks import registry

    card = registry.card(name)
    typer.echo(f"{name}: {card.summary}\n")
    typer.echo(card.body.strip() + "\n")
    for label, text in card.facts().items():
        typer.echo(f"{label}: {text}")
    if reason := unavailable(card):
        typer.echo(reason)


def _show_preset(name: str) -> None:
    import yaml

    from harness.planning.config import resolve

    values = resolve(name, {}).model_dump(mode="json")
    typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _show_model(name: str) -> None:
    from harness.wheels.catalogue import BUNDLED, command
    from harness.wheels.keeping import state

    model, found = BUNDLED[name], state(name)
    typer.echo(f"{name}: {model.label}\n")
    typer.echo(f"good for: {model.good_for}")
    typer.echo(f"parameters: {model.parameters:,}")
    typer.echo(f"licence: {model.licence}")
    if model.terms is not None:
        typer.echo(f"terms: {model.terms.title} ({model.terms.address}), {model.terms.gist}")
    typer.echo(f"file: {model.source.file}, revision {model.source.revision}")
    for wheel in model.source.wheels:
        typer.echo(f"package: {wheel.name} {wheel.version}, sha-256 {wheel.sha256}")
    size = (model.source.bytes + model.converted_bytes) / 1e6
    typer.echo(f"on disk, with the converted weights: {size:,.0f} MB; `{command(name)}` prepares it")
    typer.echo(f"here: {found.word}{'. ' if found.reason else ''}{found.reason}")
    typer.echo(f"\nRun it: harness run --model {name}")


def _show_architecture(name: str) -> None:
    from methods.architectures import architectures

    shapes = architectures()[name]
    typer.echo(f"{name}: the shapes of {shapes.label}, to count with; its weights are not here\n")
    typer.echo(f"parameters: {shapes.parameters:,}")
    typer.echo(f"target modules: {', '.join(shapes.targets)}")
    typer.echo(f"model type: {shapes.config['model_type']}")
    typer.echo(f"\nCount:  harness params --model {name}\nRun it: harness run --model {shapes.repository}")


def _show_table(name: str) -> None:
    from harness.planning.experiments import context
    from reports.catalogue import availability, entry

    one = entry(name)
    found = availability(one, context("bundled", "smollm2-135m"))
    typer.echo(f"{name}: {one.title}\n")
    for label, text in _facts(one).items():
        typer.echo(f"{label}: {text}")
    typer.echo(f"here: {found.state}{'. ' if found.reason else ''}{found.reason}")
    for note in one.notes:
        typer.echo(f"- {note}")
    command = "ablate" if name in names("ablations") else "reproduce"
    typer.echo(f"\n{'See' if found.state in ('computed', 'not') else 'Run'} it: harness {command} {name}")


def _facts(one: Entry) -> dict[str, str]:
    """What an entry is made of, in words; nothing that is empty."""
    facts = {
        "kind": "figure" if one.is_figure else "table",
        "published for": one.model or "",
        "methods": ", ".join(one.methods),
        "methods with a small preset": ", ".join(one.scaled_methods),
        "tasks": ", ".join(one.tasks),
        "settings of the paper": ", ".join(f"{key}={value}" for key, value in one.settings.items()),
        "settings of a small preset": ", ".join(f"{key}={value}" for key, value in one.scaled.items()),
    }
    if one.axis is not None:
        facts["varied"] = f"{one.axis.label}, {one.axis.key}={_listed(one.axis.paper)}"
        facts["varied with a small preset"] = f"{one.axis.key}={_listed(one.axis.scaled)}"
    return {label: text for label, text in facts.items() if text}


def _listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


def _show_tracker(name: str) -> None:
    from harness.tracking.tracker import TRACKERS

    typer.echo(f"{name}: {TRACKERS[name][2]}\n")
    typer.echo(f"Install it, in the clone: pip install '.[{name}]'")
    typer.echo(f"Use it: harness run ... --track {name} (also on reproduce and ablate)")


_SHOWS = {
    "methods": _show_method,
    "tasks": _show_task,
    "presets": _show_preset,
    "models": _show_model,
    "architectures": _show_architecture,
    "tables": _show_table,
    "ablations": _show_table,
    "trackers": _show_tracker,
}
