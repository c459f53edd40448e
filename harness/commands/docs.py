"""`harness docs`: one page of all methods and one of all tasks, made from their cards without importing torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

from results.ground.errors import HarnessError
from results.ground.files import make_folder

_MADE = "<!-- Made from the cards by `harness docs`; change {source} instead. -->"
_TRACKS = {
    "reference": "Without composition",
    "compose": "Compose track: frozen experts",
    "joint": "Joint track: experts trained too",
}


def docs_command(output: Path, check: bool) -> None:
    """Write both pages, or see that they are up to date.

    Raises:
        HarnessError: with `check`, a page that is missing or out of date.
    """
    for name, text in {"methods.md": methods_page(), "tasks.md": tasks_page()}.items():
        page = output / name
        if not check:
            make_folder(output)
            page.write_text(text, encoding="utf-8")
            typer.echo(f"{page}: {text.count(chr(10))} lines")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            raise HarnessError(f"The page {page} is not that of the cards: run `harness docs --output {output}`.")


_AGREE_COLUMNS = ("method", "peer", "output", "loss", "gradient")
_AGREES = (
    "Other implementations on equal weights, and bounds of the largest differences, which tests assert (of logits or "
    "of an update; of the loss; of the gradient). `restated`: the peer cannot be installed, and the test writes the "
    "arithmetic of its sources out. Made from `methods/agreements.yaml`."
)


def methods_page() -> str:
    """The project's methods by track: an overview, then every card."""
    from methods import registry
    from methods.agreements import table

    cards = [card for card in map(registry.card, registry.names()) if card.target.startswith("methods.")]
    parts = [
        "# Methods",
        _MADE.format(source="methods/cards/"),
        f"{len(cards)} methods in tracks that no ranking mixes. `harness show NAME` prints a card with all keys of its "
        "configuration, `harness params` counts parameters.",
    ]
    for track, title in _TRACKS.items():
        own = [card for card in cards if card.track == track]
        rows = [(_link(card.name) + (f" ({card.label})" if card.label else ""), card.summary) for card in own]
        parts += [f"**{title}**", _table(("method", "what it is"), rows)]
    parts += ["**Agrees with**", _AGREES, _table(_AGREE_COLUMNS, table([card.name for card in cards]))]
    for card in cards:
        name, _, body = card.body().partition("\n")
        facts = [f"*{card.summary}*", f"{card.track.capitalize()} track. {card.sentence()}"]
        facts += [f"Rows of it read **{card.label}**. {card.note}"] if card.label else []
        source = [f"Source: {card.paper}."] if card.paper else []
        parts += [f"#{name}", *facts, *source, _deeper(body)]
    return _joined(parts)


def tasks_page() -> str:
    """The project's tasks by family: an overview, then every card."""
    from tasks import registry

    cards = [card for card in map(registry.card, registry.names()) if card.target.startswith("tasks.")]
    cards.sort(key=lambda card: (card.family, card.name))
    rows = [(_link(c.name), c.family, c.expert, c.primary, ", ".join(c.sources), c.summary) for c in cards]
    parts = [
        "# Tasks",
        _MADE.format(source="tasks/cards/"),
        f"{len(cards)} tasks. `harness show NAME` prints a card.",
        _table(("task", "family", "expert", "primary metric", "sources", "what it is"), rows),
    ]
    for card in cards:
        parts += [f"## {card.name}", f"*{card.summary}*", _deeper(card.body), _table(("", ""), card.facts().items())]
    return _joined(parts)


def _link(name: str) -> str:
    return f"[`{name}`](#{name})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _deeper(body: str) -> str:
    """A card's text with its headings one level lower, as sections of the page."""
    return re.sub(r"^#(?=#* )", "##", body.strip(), flags=re.MULTILINE)


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
