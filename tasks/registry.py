"""All tasks by name. Names come from the cards; a task's code is imported when it is created.

An outside package adds tasks through an entry point of the group `harness.tasks` whose value is one of its packages:
every Markdown card in that package is one task, and the card's `class` names the code.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from results.ground import plugins
from results.ground.errors import HarnessError
from results.ground.names import UnknownName, unknown
from tasks.card import TaskCard, read_card

if TYPE_CHECKING:
    from tasks.base import Task

ENTRY_POINTS = "harness.tasks"
_DISPLAY = re.compile(r"(?P<name>[^@\s]+)(?:@(?P<shots>\d+)-shot)?")


class UnknownTask(UnknownName):
    """No task has this name; the message offers the nearest ones."""


class DuplicateTask(HarnessError, ValueError):
    """Two cards claim one name; the message says which."""


def names() -> list[str]:
    """Names of all tasks in alphabetical order."""
    return sorted(_cards())


def card(name: str) -> TaskCard:
    """The card of one task.

    Raises:
        UnknownTask: no task has this name.
    """
    if name not in _cards():
        raise unknown("task", name, names(), UnknownTask)
    return _cards()[name]


def create(name: str) -> Task:
    """Import and build one task.

    Raises:
        UnknownTask: no task has this name.
        PluginError: the installed package that it comes from is broken.
    """
    found = card(name)
    task: Task = plugins.target("task", name, found.target, _read()[1].get(name), lambda made: made(found))
    return task


def parse(display: str) -> tuple[str, int | None]:
    """Split a display name: `gsm8k@5-shot` is `("gsm8k", 5)`, `gsm8k` is `("gsm8k", None)`.

    Raises:
        UnknownTask: the name before `@` is not a task's, or what follows is no number of shots.
    """
    match = _DISPLAY.fullmatch(display)
    if match is None or match["name"] not in _cards():
        raise unknown("task", display, names(), UnknownTask)
    return match["name"], None if match["shots"] is None else int(match["shots"])


def display(name: str, shots: int | None) -> str:
    """The name to show: `gsm8k@5-shot` when `shots` is given and is not the task's default; inverse of `parse`."""
    return name if shots is None or shots == card(name).shots else f"{name}@{shots}-shot"


def _cards() -> dict[str, TaskCard]:
    return _read()[0]


@cache
def _read() -> tuple[dict[str, TaskCard], dict[str, str]]:
    """All cards, and the installed packages of those that are not ours."""
    return plugins.cards(
        "tasks.cards",
        ENTRY_POINTS,
        read_card,
        lambda name: DuplicateTask(f"Two cards claim the task '{name}': rename one."),
    )
