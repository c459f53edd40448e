"""The command line with a log of the stages that it makes: `python -m tests.harness.runs.logged LOG STAYS ARGS`.

A line of LOG is `began NAME`, `made NAME` or `stays NAME`. With STAYS other than 0 the process counts as one of another
machine, which nobody can ask whether it lives, and stays in the middle of its STAYS-th stage until it is killed.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.cli import main
from results.ground import owners
from results.stages import Stages


def log(path: Path, stays: int) -> None:
    """Log every stage from now on."""
    create = Stages.create
    begun = 0

    @contextmanager
    def logged(self: Stages, kind: str, key: str, meta: dict[str, Any] | None = None) -> Iterator[Path]:
        nonlocal begun
        begun += 1
        _say(path, f"began {kind}/{key}")
        with create(self, kind, key, meta) as folder:
            yield folder
            if begun == stays:
                _say(path, f"stays {kind}/{key}")
                signal.pause()
        _say(path, f"made {kind}/{key}")

    Stages.create = logged  # type: ignore[method-assign]


def _say(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


if __name__ == "__main__":
    place, stays, *arguments = sys.argv[1:]
    if int(stays):
        owners.boot = lambda: "another"  # type: ignore[assignment]
    log(Path(place), int(stays))
    sys.argv = ["harness", *arguments]
    main()
