"""Paths that people write."""

from __future__ import annotations

from pathlib import Path

from results.ground.errors import HarnessError


def place(text: str | Path) -> Path:
    """The path that an option or argument names, its `~` expanded; a default is a path already.

    Raises:
        HarnessError: it is empty, which would be the working directory, or no path.
    """
    if isinstance(text, Path):
        return text
    if not text.strip() or "\0" in text:
        raise HarnessError(f"{text!r} is no path: give a folder.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise HarnessError(f"There is no home folder for {text}: give the whole path.") from error
