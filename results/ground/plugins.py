"""Cards of ours and of installed packages.

An installed package adds methods or tasks through an entry point whose value is one of its packages: every Markdown
file in there is a card. What is broken in it is left out and said once on standard error, package and reason; what is
broken in ours is raised, since nothing else would be right.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import Any, Protocol, TypeVar

from results.ground.errors import HarnessError


class PluginError(HarnessError, ValueError):
    """A card or module of an installed package is broken. The message names the package and the mend."""


class Named(Protocol):
    """A card."""

    @property
    def name(self) -> str: ...


C = TypeVar("C", bound=Named)
T = TypeVar("T")

_said: set[str] = set()


def say_once(sentence: str) -> None:
    """Write a sentence to standard error, unless this process has written it already."""
    if sentence not in _said:
        _said.add(sentence)
        sys.stderr.write(f"harness: {sentence}\n")


def cards(
    own: str, group: str, read: Callable[[Traversable], C], twice: Callable[[str], HarnessError]
) -> tuple[dict[str, C], dict[str, str]]:
    """All cards by name, and the installed packages of those that are not ours.

    Args:
        own: our package of cards.
        group: entry points of installed packages.
        read: makes a card of a file.
        twice: the error for a name that two of our own cards claim.
    """
    found = {card.name: card for card in _ours(own, read, twice)}
    packages: dict[str, str] = {}
    for package in sorted({point.value for point in metadata.entry_points(group=group)}):
        try:
            files = _markdown(package)
        except Exception as error:  # importing a stranger's package may raise anything
            say_once(f"The package {package} is left out ({_reason(error)}): repair or uninstall it.")
            continue
        for file in files:
            try:
                card = read(file)
            except Exception as error:
                say_once(f"A card of the package {package} is left out ({_reason(error)}): repair or uninstall it.")
                continue
            if card.name in found:
                owner = packages.get(card.name, own)
                say_once(
                    f"The card '{card.name}' of the package {package} is left out (it has the name of one in "
                    f"{owner}): rename it there."
                )
                continue
            found[card.name], packages[card.name] = card, package
    return found, packages


def target(kind: str, name: str, path: str, package: str | None, use: Callable[[Any], T]) -> T:
    """What a card's `module:Object` gives.

    Args:
        kind: for messages, `method` or `task`.
        name: of the card.
        path: module and object.
        package: installed package of the card; None for ours, whose errors are raised as they are.
        use: makes of the object what is wanted.

    Raises:
        PluginError: it comes from an installed package and cannot be imported or used.
    """
    module, _, attribute = path.partition(":")
    try:
        return use(getattr(importlib.import_module(module), attribute))
    except Exception as error:
        if package is None:
            raise
        raise PluginError(
            f"The {kind} '{name}' of the package {package} cannot be used ({_reason(error)}): repair or uninstall it."
        ) from error


def _ours(own: str, read: Callable[[Traversable], C], twice: Callable[[str], HarnessError]) -> list[C]:
    ours = [read(file) for file in _markdown(own)]
    names = [card.name for card in ours]
    if doubled := sorted(name for name in set(names) if names.count(name) > 1):
        raise twice(doubled[0])
    return ours


def _markdown(package: str) -> list[Traversable]:
    files = (file for file in resources.files(package).iterdir() if file.name.endswith(".md"))
    return sorted(files, key=lambda file: file.name)


def _reason(error: Exception) -> str:
    """Kind and first line of an error, short enough for a sentence."""
    text = " ".join(str(error).split())
    shown = text if isinstance(error, HarnessError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
    return shown[:300].rstrip(".")
