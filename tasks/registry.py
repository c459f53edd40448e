"""All tasks by name. Names come from the cards; a task's code is imported when it is created.

An outside package adds tasks through an entry point of the group `harness.tasks` whose value is one of its packages:
every Markdown card in that package is one task, and the card's `class` names the code. A single file adds one through
`bring`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from results.ground import plugins
from results.ground.errors import HarnessError
from results.ground.names import UnknownName, unknown
from tasks.card import TaskCard, read_card

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.files import TaskFile

ENTRY_POINTS = "harness.tasks"
_BROUGHT: dict[str, TaskFile] = {}
_DISPLAY = re.compile(r"(?P<name>[^@\s]+)(?:@(?P<shots>[0-9]{1,9})-shot)?")


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
    if name in _BROUGHT:
        return _BROUGHT[name].task
    task: Task = plugins.target("task", name, found.target, _read()[1].get(name), lambda made: made(found))
    return task


def bring(path: Path, *, functions: bool = False) -> str:
    """Make the task in a file known: rows under the file's name, a task file of lm-eval under the name it gives itself.

    An edited file takes the place of what was brought from it before.

    Args:
        path: of the file.
        functions: whether a task file of lm-eval may name Python functions, which are run.

    Returns:
        The task's name.

    Raises:
        TaskFileError, SourceError: see `tasks.files.read_task_file`.
        DuplicateTask: another task or expert has that name.
    """
    from tasks.files import read_task_file

    path = path.resolve()
    new = read_task_file(path, functions=functions)
    name, before = new.card.name, _BROUGHT.get(new.card.name)
    if before is None and name in _cards():
        raise DuplicateTask(f"There is a task '{name}' already, so the one in {path} needs another name: rename it.")
    served = sorted(other.name for other in _cards().values() if other.expert == name and other.name != name)
    if served:
        raise DuplicateTask(f"'{name}' is the expert of {' and '.join(served)}: give the task in {path} another name.")
    if before is not None and before.path != path and before.sha256 != new.sha256:
        raise DuplicateTask(f"Two files hold a task '{name}', {before.path} and {path}: rename one.")
    _BROUGHT[name] = new
    return name


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
    return _read()[0] | {name: file.card for name, file in _BROUGHT.items()} if _BROUGHT else _read()[0]


@cache
def _read() -> tuple[dict[str, TaskCard], dict[str, str]]:
    """All cards, and the installed packages of those that are not ours."""
    return plugins.cards(
        "tasks.cards",
        ENTRY_POINTS,
        read_card,
        lambda name: DuplicateTask(f"Two cards claim the task '{name}': rename one."),
    )
