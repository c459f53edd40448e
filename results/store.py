"""The run folder: `run.yaml`, one folder per cell, and the reports made from them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic
import yaml

from results.ground.damage import said_of
from results.ground.digest import digest
from results.ground.files import (
    MARKER,
    STAGING,
    StoreError,
    atomic_folder,
    changed_files,
    is_finished,
    make_folder,
    read_json,
    schema_of,
    sweep,
    write_bytes,
    write_json,
)
from results.ground.locks import claimed, holder, joined
from results.ground.reading import Unreadable, file_bytes, text_of, yaml_value
from results.schema import RUN_VERSION, SCHEMA_VERSION, Item, PlannedCell, Record, RunInfo
from results.stages import Stages

__all__ = ["RunFolder", "Stages", "StoreError", "dump_items", "load_items"]

RUN = "run.yaml"
LOCK = ".lock"
RECORD = "record.json"
ITEMS = "items.jsonl.gz"
_OWN = (LOCK, f"{LOCK}.owner")


class RunFolder:
    """A named set of cells and everything known about them.

    `run.yaml` keeps the union of what was ever planned; see `results.planned` for how plans are joined. Reading
    changes nothing; who writes holds `lock`.
    """

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def create(cls, path: Path, info: RunInfo) -> RunFolder:
        """A folder with this plan, whatever plan it had before; stored cells are kept."""
        folder = cls(path, info)
        folder.write_plan(info)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            StoreError: the folder is no run, or its `run.yaml` cannot be read or was written by a newer harness.
        """
        try:
            return cls(path, read_plan(path / RUN))
        except FileNotFoundError:
            raise StoreError(f"{path} is not a run: give a folder that `harness run` wrote.") from None

    @classmethod
    def find(cls, path: Path) -> RunFolder | None:
        """The run in a folder; None where the folder is missing or empty, so that a run may start there.

        Raises:
            StoreError: a file, a folder that holds something else, or a run that cannot be read.
        """
        if (path / RUN).exists():
            return cls.open(path)
        there = next(place for place in (path, *path.parents) if place.exists())
        if not there.is_dir():
            raise StoreError(f"{path} cannot be made ({there} is a file): choose another --output.")
        if path.is_dir() and not (path / "cells").is_dir() and any(map(_foreign, path.iterdir())):
            raise StoreError(f"{path} holds something that is no run: give an empty or new folder.")
        return None

    def write_plan(self, info: RunInfo) -> None:
        """Replace `run.yaml`, atomically."""
        make_folder(self.path / "cells")
        text = yaml.safe_dump(info.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        write_bytes(self.path / RUN, _sealed(text))
        self.info = info

    @property
    def reports(self) -> Path:
        """Folder of the rendered tables, plots and pages, made when asked for."""
        folder = self.path / "reports"
        folder.mkdir(exist_ok=True)
        return folder

    def cell_folder(self, cell: str) -> Path:
        """Where a cell's record and items are, or would be."""
        return self.path / "cells" / cell

    def write_cell(self, record: Record, items: Iterable[Item]) -> None:
        """Store one cell as a whole, replacing an earlier attempt or scoring of it."""
        with atomic_folder(self.cell_folder(record.cell), replace=True) as folder:
            (folder / ITEMS).write_bytes(dump_items(items))
            write_json(folder / RECORD, record)

    def record(self, cell: str) -> Record | None:
        """The stored record of a cell, whatever its status; None when there is none or it was cut off.

        Raises:
            StoreError: it was written by a newer version of the harness, or is not a record.
        """
        folder = self.cell_folder(cell)
        if not is_finished(folder):
            return None
        try:
            record = read_json(folder / RECORD, Record)
        except StoreError:
            _require_known(_version(folder / RECORD), folder / RECORD)
            raise
        _require_known(record.schema_version, folder / RECORD)
        if record.cell != cell:
            raise StoreError(
                f"{folder / RECORD} is of another cell, {record.cell:.40}; remove its folder and run again."
            )
        return record

    def finished(self, cell: str) -> bool:
        """Whether the cell need not be computed again; failed, refused and damaged cells are tried again."""
        if changed_files(self.cell_folder(cell)):
            return False
        record = self.record(cell)
        return record is not None and record.status == "done"

    def tried(self, cell: str) -> bool:
        """Whether the cell has a sound record, be it of a failure: to those who compute a run together that is all."""
        return not changed_files(self.cell_folder(cell)) and self.record(cell) is not None

    def records(self) -> list[Record]:
        """Stored records of the planned cells, each once, in plan order, failed ones included."""
        cells = dict.fromkeys(planned.cell for planned in self.info.cells)
        found = (self.record(cell) for cell in cells)
        return [record for record in found if record is not None]

    def items(self, cell: str) -> list[Item]:
        """Items of a stored cell, in evaluation order; empty for a failed one.

        Raises:
            StoreError: they are missing or damaged.
        """
        path = self.cell_folder(cell) / ITEMS
        try:
            return load_items(file_bytes(path))
        except (OSError, EOFError, ValueError, zlib.error):
            raise StoreError(f"{path} is missing or damaged; remove its folder and run again.") from None

    def verify(self) -> list[str]:
        """Sentences on everything stored that is damaged, failed, or does not fit together; empty when all is well."""
        problems = [] if _whole(file_bytes(self.path / RUN)) else [f"{RUN} is not the file that was written."]
        for planned in {planned.cell: planned for planned in self.info.cells}.values():
            name = f"{planned.cell} ({planned.method} on {planned.task})"
            folder = self.cell_folder(planned.cell)
            if not (folder / MARKER).exists():
                problems.append(f"{name} is not finished.")
                continue
            changed = changed_files(folder)
            problems += [f"{name}: {file} is not the file that was written." for file in changed]
            try:
                problems += [f"{name}: {problem}" for problem in self._problems(planned)]
            except StoreError as error:
                problems.append(f"{name}: {error}")
        return problems

    def _problems(self, planned: PlannedCell) -> list[str]:
        """What is wrong with one stored cell.

        Raises:
            StoreError: a part of it cannot be read.
        """
        record = self.record(planned.cell)
        if record is None:
            return []  # the files that are not what was written are named already
        problems = []
        if digest(record.spec) != record.cell:
            problems.append("its name is not the hash of its specification.")
        if (record.spec.method, record.spec.task, record.spec.seed) != (planned.method, planned.task, planned.seed):
            problems.append(f"{RUN} names it otherwise than its record.")
        if record.status == "failed":
            problems.append(f"it failed: {record.error}")
        if record.status == "done":
            items = self.items(planned.cell)
            if record.primary not in record.metrics and record.n_items > record.n_unscored:
                problems.append(f"its record lacks its first metric, {record.primary}.")
            if len(items) != record.n_items:
                problems.append(f"the number of stored items is not {record.n_items}.")
            problems += [
                f"{metric} is not the mean of its items; score them again with `harness rescore`."
                for metric in _disagreeing(record, items)
            ]
        return problems

    def failed(self) -> int:
        """Number of planned cells whose record is that of a failure."""
        count = 0
        for cell in dict.fromkeys(planned.cell for planned in self.info.cells):
            with contextlib.suppress(StoreError):
                record = self.record(cell)
                count += record is not None and record.status == "failed"
        return count

    def sweep(self) -> None:
        """Remove what killed processes left half-written; who calls this holds the lock."""
        for folder in (self.path, self.path / "cells"):
            sweep(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes on this machine from writing to this run.

        Raises:
            StoreError: another process is writing to it.
        """
        with claimed(self.path / LOCK) as mine:
            self._mine(mine)
            yield

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Write cells together with others, and keep from the run whoever would change its plan (`lock`).

        Raises:
            StoreError: one process has the run for itself.
        """
        with joined(self.path / LOCK) as mine:
            self._mine(mine)
            yield

    def _mine(self, mine: bool) -> None:
        if not mine:
            raise StoreError(
                f"Another process is writing to {self.path} ({holder(self.path / LOCK)}); wait for it or choose "
                "another --output."
            )


def _foreign(entry: Path) -> bool:
    """Whether an entry of a folder is nothing that a run begins with."""
    return entry.name not in _OWN and not entry.name.startswith(STAGING)


_AGAIN = "remove it and run the command that made it again, which keeps the cells"


SEAL = b"# sha256 of the lines above: "
"""The last line of a `run.yaml`: without it a plan that was cut off would be a shorter plan."""
SEALED_VERSION = 3


def read_plan(file: Path) -> RunInfo:
    """What a `run.yaml` holds.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it cannot be read, was cut off, or was written by a newer harness.
    """
    try:
        with said_of(file):
            text = file_bytes(file)
        data = yaml_value(text_of(text))
    except Unreadable as error:
        raise StoreError(f"{file} cannot be read: it {error}; {_AGAIN}.") from None
    if isinstance(data, dict) and (version := data.get("schema_version")) is not None:
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise StoreError(f"{file} has version {version!r:.40}, which there never was; {_AGAIN}.")
        if version > RUN_VERSION:
            raise StoreError(f"{file} has version {version}, newer than {RUN_VERSION}; update the harness to read it.")
        if version >= SEALED_VERSION and SEAL not in text.rstrip().rsplit(b"\n", 1)[-1]:
            raise StoreError(f"{file} is cut off; {_AGAIN}.")
    try:
        return RunInfo.model_validate(data)
    except pydantic.ValidationError:
        raise StoreError(f"{file} cannot be read; {_AGAIN}.") from None


def _sealed(text: str) -> bytes:
    data = text.encode()
    return data + SEAL + hashlib.sha256(data).hexdigest().encode() + b"\n"


def _whole(data: bytes) -> bool:
    """Whether a plan is what was written; those of earlier versions do not say."""
    body, seal, sha256 = data.rpartition(SEAL)
    return not seal or hashlib.sha256(body).hexdigest().encode() == sha256.strip()


def _require_known(version: int | None, path: Path) -> None:
    """Refuse what another version of the harness wrote, also where this one can read it: it may mean something else."""
    if version in (None, SCHEMA_VERSION):
        return
    mend = "update the harness to read it" if version > SCHEMA_VERSION else "run it again with --replace"
    raise StoreError(f"{path} has schema {version}, and this harness reads {SCHEMA_VERSION}; {mend}.")


def _version(path: Path) -> int | None:
    """The schema version of a record; None where it cannot be read."""
    try:
        return schema_of(file_bytes(path))
    except (OSError, ValueError):
        return None


def _disagreeing(record: Record, items: Iterable[Item]) -> list[str]:
    """The primary metric, when it is not the mean of the items that have a verdict."""
    stored = record.metrics.get(record.primary)
    values = [v for item in items if (v := item.metrics.get(record.primary)) is not None]
    if stored is None or not values or math.isclose(stored.value, sum(values) / len(values), abs_tol=1e-9):
        return []
    return [record.primary]


def dump_items(items: Iterable[Item]) -> bytes:
    """Gzipped JSON lines, equal bytes for equal items.

    Raises:
        ValueError: a float is infinite or NaN.
    """
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        for item in items:
            text = json.dumps(item.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            stream.write(text.encode() + b"\n")
    return buffer.getvalue()


def load_items(data: bytes) -> list[Item]:
    """Inverse of `dump_items`.

    Raises:
        EOFError, OSError, zlib.error: no gzip, or cut off.
        ValueError: lines that are no items.
    """
    if not data:
        raise EOFError
    return [Item.model_validate_json(line) for line in gzip.decompress(data).splitlines()]
