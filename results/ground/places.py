"""Paths that people write."""

from __future__ import annotations

from pathlib import Path

from results.ground.errors import HarnessError

ELSEWHERE = "…"
"""Stands in a publication for the folders of the machine that it was made on."""


def place(text: str | Path) -> Path:
    """The path that an option or argument names, its `~` expanded; a default is a path already.

    Raises:
        HarnessError: it is empty, which would be the working directory, no path, or one of another machine.
    """
    if isinstance(text, Path):
        return text
    if not text.strip() or "\0" in text:
        raise HarnessError(f"{text!r} is no path: give a folder.")
    if text.startswith(f"{ELSEWHERE}/"):
        raise HarnessError(
            f"{text} stands for a folder of the machine where this was published: name yours in a `harness run` "
            "(--experts, --data, --model or --methods, whichever it was)."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise HarnessError(f"There is no home folder for {text}: give the whole path.") from error
