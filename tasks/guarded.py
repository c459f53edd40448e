"""Templates and functions of a task file from outside, run for so long and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results.ground.deadline import within
from results.ground.errors import HarnessError
from tasks.row_file_task import TaskFileError

RENDERING = 10.0
"""Seconds for the templates of one row."""


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Say in a sentence what a task file's templates and functions do.

    Raises:
        TaskFileError: they fail, or never end.
    """

    def late() -> TaskFileError:
        return TaskFileError(f"A template of {path} has not ended after {RENDERING:.0f} seconds: mend it there.")

    try:
        with within(RENDERING, late):
            yield
    except HarnessError:
        raise
    except Exception as error:  # of Jinja, of lm-eval, of functions that the file names
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        raise TaskFileError(f"The task file {path} cannot be used ({reason}): mend it there.") from error
