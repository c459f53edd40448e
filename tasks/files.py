"""Tasks in one file of their own, without a package: rows, or a task file of lm-evaluation-harness."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from results.ground.digest import file_sha256
from results.ground.reading import Unreadable, regular
from tasks.base import Task
from tasks.card import TaskCard
from tasks.row_file import SUFFIXES, suffix_of
from tasks.row_file_task import TaskFileError, file_name, read_row_task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class TaskFile:
    """One task read from a file.

    Attributes:
        path: absolute.
        sha256: of the file's bytes.
        card: what follows from the file.
        task: the task itself.
    """

    path: Path
    sha256: str
    card: TaskCard
    task: Task


def is_task_file(path: Path) -> bool:
    """Whether a file's name says that it holds a task."""
    return suffix_of(path) is not None or path.suffix in YAML


def read_task_file(path: Path, *, functions: bool = False) -> TaskFile:
    """The task in one file.

    Args:
        path: absolute.
        functions: whether a task file of lm-evaluation-harness may name Python functions, which are run.

    Raises:
        TaskFileError: no such file, a name that no task can have, or a task file that cannot be used.
        SourceError: wrong rows.
    """
    if not path.exists():
        kinds = f"rows ({', '.join(SUFFIXES)}) or a task file of lm-eval (.yaml)"
        raise TaskFileError(f"There is no task file {path}: give the path of {kinds}.")
    try:
        regular(path)
    except Unreadable as error:
        raise TaskFileError(f"The task file {path} {error}: give the path of a file.") from None
    if path.suffix in YAML:
        from tasks.included_task import read_included

        task: Task = read_included(path, functions=functions)
    else:
        task = read_row_task(path)
    if not NAME.fullmatch(task.name):
        raise TaskFileError(
            f"The task in {path} cannot be named '{task.name}': name it with letters, digits, _ and - alone."
        )
    return TaskFile(path, file_sha256(path), getattr(task, "card"), task)  # noqa: B009


__all__ = ["TaskFile", "TaskFileError", "file_name", "is_task_file", "read_task_file"]
