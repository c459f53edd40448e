"""What the stage store holds, and what of it may go."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from results.ground.errors import HarnessError
from results.ground.files import MARKER
from results.partial import PARTIAL
from results.stages import Stages
from results.store import RunFolder

_AGE = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_SIZE = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Entry:
    """One folder of the store. `name` is `kind/key`; `modified` in seconds since the epoch; `finished` or left over."""

    name: str
    path: Path
    bytes: int
    modified: float
    finished: bool

    @property
    def kind(self) -> str:
        """Kind of stage; `partial` of what one that is not finished has come to."""
        return self.name.split("/")[0]

    @property
    def stage(self) -> str:
        """Name of the stage that it is, or that it is a part of."""
        return self.name.removeprefix(f"{PARTIAL}/").replace("-", "/", 1) if self.kind == PARTIAL else self.name


def entries(stages: Stages) -> list[Entry]:
    """Everything in a store, oldest first."""
    found = [
        _entry(folder, f"{kind.name}/{folder.name}")
        for kind in sorted(stages.root.glob("*"))
        if kind.is_dir()
        for folder in kind.iterdir()
        if folder.is_dir()
    ]
    return sorted(found, key=lambda entry: entry.modified)


def _entry(folder: Path, name: str) -> Entry:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    modified = max((file.st_mtime for file in files), default=folder.stat().st_mtime)
    return Entry(name, folder, sum(file.st_size for file in files), modified, (folder / MARKER).is_file())


def chosen(
    found: Sequence[Entry],
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    of: Collection[str] | None = None,
    keep: Collection[str] = (),
    now: float | None = None,
) -> list[Entry]:
    """The entries that are to go, oldest first.

    Args:
        found: what the store holds, oldest first.
        older_than: seconds since the last change.
        max_bytes: what may stay together; the oldest go first until the rest fits.
        of: names of stages that may go; None for all.
        keep: names of stages that stay whatever else is said.
        now: seconds since the epoch.
    """
    at = time.time() if now is None else now
    # What is not finished may be under way: it goes once nobody has touched it for a day.
    free = [one for one in found if one.finished or at - one.modified > _AGE["d"]]
    free = [one for one in free if one.stage not in keep and (of is None or one.stage in of)]
    if older_than is not None:
        free = [one for one in free if at - one.modified > older_than]
    if max_bytes is None:
        return free
    excess = sum(one.bytes for one in found) - max_bytes
    going = []
    for one in free:
        if excess <= 0:
            break
        going.append(one)
        excess -= one.bytes
    return going


def remove(found: Sequence[Entry]) -> None:
    """Delete entries; the marker first, so that one that is cut off is no finished stage."""
    for one in found:
        (one.path / MARKER).unlink(missing_ok=True)
        shutil.rmtree(one.path, ignore_errors=True)


def stages_of(run: Path) -> set[str]:
    """Names of the stages behind a run's cells.

    Raises:
        HarnessError: the folder is no run, or its plan was written before it named them.
    """
    cells = RunFolder.open(run).info.cells
    if cells and not any(cell.stages for cell in cells):
        raise HarnessError(f"{run} does not name its stages: continue it once with `harness run --into {run}`.")
    return {name for cell in cells for name in cell.stages}


def seconds(text: str) -> float:
    """An age: `12h`, `30d`, `4w`.

    Raises:
        HarnessError: it is none.
    """
    return _measured(text, _AGE, "an age", "30d")


def size(text: str) -> int:
    """A size: `500MB`, `20GB`, `1TB`.

    Raises:
        HarnessError: it is none.
    """
    return int(_measured(text, _SIZE, "a size", "20GB"))


def _measured(text: str, units: dict[str, float] | dict[str, int], kind: str, example: str) -> float:
    match = re.fullmatch(rf"([0-9]{{1,15}}(?:\.[0-9]{{1,15}})?)\s*({'|'.join(units)})", text.strip())
    if match is None:
        raise HarnessError(f"'{text}' is not {kind}: write one like {example}.")
    return float(match[1]) * units[match[2]]
