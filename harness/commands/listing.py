"""`harness list` and `harness show`: names and cards, without importing torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from results.ground.names import unknown

if TYPE_CHECKING:
    from tasks.card import TaskCard

KINDS = ("methods", "tasks", "models", "presets", "tables")


def list_command(what: str) -> None:
    """Print one line for each name; the first column is the name alone.

    Raises:
        HarnessError: `what` is not a kind of thing.
    """
    if what not in KINDS:
        raise unknown("thing to list", what, KINDS)
    rows = _LISTINGS[what]()
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(max(map(len, rows), default=0))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip())


def show_command(name: str) -> None:
    """Print what is known about one name, whatever kind it is.

    Raises:
        HarnessError: nothing has that name.
    """
    from harness.plugins import named
    from methods import registry as methods
    from tasks import registry as tasks

    name = named(name)
    if name in methods.names():
        _show_method(name)
    elif name in tasks.names():
        _show_task(name)
    elif name in _preset_names():
        _show_preset(name)
    else:
        known = [row[0] for kind in KINDS for row in _LISTINGS[kind]()]
        raise unknown("name", name, known)


def completions(kind: str, incomplete: str) -> list[str]:
    """Names for shell completion; the last of a comma-separated list is completed."""
    done, comma, last = incomplete.rpartition(",")
    names = [row[0] for row in _LISTINGS[kind]()]
    return [f"{done}{comma}{name}" for name in names if name.startswith(last)]


def _methods() -> list[tuple[str, ...]]:
    from methods import registry

    cards = map(registry.card, registry.names())
    return [(card.name, card.track, card.summary) for card in cards]


def _tasks() -> list[tuple[str, ...]]:
    from tasks import registry

    cards = map(registry.card, registry.names())
    return [
        (card.name, card.family, ",".join(card.sources), f"{card.summary} {_unavailable(card)}".rstrip())
        for card in cards
    ]


def _unavailable(card: TaskCard) -> str:
    """Why a task of a made question set cannot be run yet; empty for every other task."""
    from harness.sources import made_sets_folder

    if card.family != "cross-domain" or (made_sets_folder() / card.set / card.config / "test.jsonl").is_file():
        return ""
    return (
        f"Unavailable: no set was made here. `harness make-crossdomain {card.name}` has one written by a language "
        "model, which needs a key or a server (docs/judge.md); a set in a data directory is found with --data DIR."
    )


def _models() -> list[tuple[str, ...]]:
    from harness.models import BUNDLED

    return [(name, "bundled", model.label) for name, model in BUNDLED.items()]


def _preset_names() -> list[str]:
    from harness.config import preset_names

    return preset_names()


def _presets() -> list[tuple[str, ...]]:
    from harness.config import load_preset

    return [(name, str(load_preset(name).get("summary", ""))) for name in _preset_names()]


def _tables() -> list[tuple[str, ...]]:
    from harness.experiments import context
    from reports.catalogue import listing

    return listing(context("bundled", "smollm2-135m"))


_LISTINGS: dict[str, Callable[[], list[tuple[str, ...]]]] = {
    "methods": _methods,
    "tasks": _tasks,
    "models": _models,
    "presets": _presets,
    "tables": _tables,
}


def _show_method(name: str) -> None:
    from methods import registry

    card = registry.card(name)
    typer.echo(f"{name} ({card.track} track): {card.summary}\n")
    typer.echo(card.sentence())
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
    if reason := _unavailable(card):
        typer.echo(reason)


def _show_preset(name: str) -> None:
    import yaml

    from harness.config import resolve

    values = resolve(name, {}).model_dump(mode="json")
    typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
