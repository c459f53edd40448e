"""Rows as a task divides them, kept between processes: the same files are not read, checked and divided at every start.

What is kept is named by everything that it follows from: the bytes of the official splits, the task's card, and the
source code of tasks. So it is never out of date, only unused, and goes after a month without use.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import unicodedata
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results.ground
import tasks
from results.ground.collecting import paused
from results.ground.damage import PlaceError, StoreError
from results.ground.digest import digest
from results.ground.files import make_folder, write_bytes
from results.ground.reading import Unreadable, file_bytes, json_value
from tasks.base import PARTS, Doc
from tasks.sources.base import DatasetRef, Row, Source
from tasks.sources.files import content

if TYPE_CHECKING:
    from tasks.row_task import LoadedRows, RowTask

FORMAT = 1
LARGEST = 2**32
"""Bytes of one task's rows; more are not kept."""
MONTH = 30 * 86_400.0


class KeptDoc(Doc):
    """A row that is parsed when somebody looks at it."""

    def __init__(self, name: str, line: bytes) -> None:
        vars(self).update(id=name, line=line)

    @property
    def row(self) -> Mapping[str, Any]:
        """The columns of the hub's data set."""
        known = vars(self)
        if "parsed" not in known:
            known["parsed"] = json.loads(known["line"])
        return known["parsed"]


class KeptRows:
    """A folder of divided rows.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(
        self, task: RowTask, source: Source, spared: str | None, read: Callable[[Source, str | None], LoadedRows]
    ) -> LoadedRows:
        """The rows of a task: those that are kept, or what `read` gives, which is kept then.

        Only what follows from the bytes of the task's official splits is kept; errors are not.

        Args:
            task: whose rows.
            source: of one kind, with `content`.
            spared: see `RowTask.load_for_training`.
            read: reads and divides.
        """
        name = _name(task, source, spared)
        if name is None:
            return read(source, spared)
        place = self.folder / name
        found = _loaded(place, source.origin(task.card.dataset))
        if found is None:
            watched = _Watched(source, task)
            found = read(watched, spared)
            if not watched.strayed:
                self._keep(place, found)
        return found

    def _keep(self, place: Path, rows: LoadedRows) -> None:
        text = _text(rows)
        if text is None or len(text) > LARGEST:
            return
        with suppress(OSError, PlaceError, StoreError):  # where nothing can be kept, rows are read each time
            make_folder(self.folder)
            write_bytes(place, text)
            for other in self.folder.iterdir():
                if other.is_file() and time.time() - other.stat().st_mtime > MONTH:
                    other.unlink()


class _Watched:
    """A source that notes whether anything beside the task's own official splits was asked of it."""

    def __init__(self, source: Source, task: RowTask) -> None:
        self.kind, self.describe, self.origin = source.kind, source.describe, source.origin
        self.strayed = False
        self._source, self._own = source, {(task.card.dataset, split) for split in _splits(task)}

    def has(self, dataset: DatasetRef, split: str) -> bool:
        self.strayed |= (dataset, split) not in self._own
        return self._source.has(dataset, split)

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        self.strayed |= (dataset, split) not in self._own
        return self._source.rows(dataset, split)


def _splits(task: RowTask) -> list[str]:
    roles = task.card.roles
    return [name for name in (roles.eval, roles.dev, roles.train) if name is not None]


def _name(task: RowTask, source: Source, spared: str | None) -> str | None:
    """What decides the rows; None where something does that cannot be named."""
    named: Callable[[DatasetRef, str], str | None] | None = getattr(source, "content", None)
    ours = all(one.__module__.partition(".")[0] == "tasks" for one in type(task).__mro__ if one not in (ABC, object))
    code = _code() if ours else None  # what a plug-in's code calls beside itself is not known here
    if named is None or code is None:
        return None
    dataset, contents = task.card.dataset, {}
    for split in _splits(task):
        if source.has(dataset, split):
            contents[split] = named(dataset, split)
            if contents[split] is None:
                return None
    return f"{task.card.name}-{digest([FORMAT, code, type(task).__qualname__, task.card, spared, contents])}.rows"


@cache
def _code() -> str | None:
    """A name for all code that may read and divide."""
    folders = [Path(tasks.__file__).parent, Path(results.ground.__file__).parent]
    code = content(file for folder in folders for file in sorted(folder.rglob("*.py")))
    return code and digest([code, unicodedata.unidata_version, list(sys.version_info[:2])])


def _text(rows: LoadedRows) -> bytes | None:
    """Header and one line a row; None where rows would not come back as they are."""
    docs = {id(doc): doc for part in PARTS for doc in rows.parts[part]} | {id(doc): doc for doc in rows.shown or ()}
    lines = []
    for doc in docs.values():
        try:
            line = json.dumps(doc.row)
        except (TypeError, ValueError):
            return None
        if json.loads(line) != doc.row:  # dates, numbers as keys, NaN
            return None
        lines.append(line.encode())
    number = {key: index for index, key in enumerate(docs)}
    header = {
        "ids": [doc.id for doc in docs.values()],
        "parts": {part: [number[id(doc)] for doc in rows.parts[part]] for part in PARTS},
        "shown": None if rows.shown is None else [number[id(doc)] for doc in rows.shown],
        "fingerprint": rows.fingerprint,
        "deviations": list(rows.deviations),
        "split_rows": dict(rows.split_rows),
        "groups": dict(rows.groups),
    }
    body = b"\n".join([json.dumps(header).encode(), *lines])
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _loaded(place: Path, origin: str) -> LoadedRows | None:
    """Rows that are kept, as a source of today names them; None where there are none, or they are damaged."""
    from tasks.row_task import LoadedRows

    try:
        sha256, _, body = file_bytes(place, LARGEST).partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != sha256:
            raise Unreadable("is damaged")
        place.touch()
    except (OSError, Unreadable):
        return None
    head, *lines = body.split(b"\n")
    header = json_value(head, halves=True)
    with paused():
        docs = [KeptDoc(name, line) for name, line in zip(header["ids"], lines, strict=True)]

    def chosen(numbers: Sequence[int]) -> list[Doc]:
        return [docs[number] for number in numbers]

    return LoadedRows(
        parts={part: chosen(header["parts"][part]) for part in PARTS},
        origin=origin,
        fingerprint=header["fingerprint"],
        deviations=tuple(header["deviations"]),
        split_rows=header["split_rows"],
        shown=None if header["shown"] is None else chosen(header["shown"]),
        groups=header["groups"],
    )
