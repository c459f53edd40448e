"""The run folder: `run.yaml`, one folder per cell, and the reports made from them."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic
import yaml

from results.ground.digest import digest
from results.ground.files import (
    StoreError,
    atomic_folder,
    changed_files,
    is_finished,
    make_folder,
    read_json,
    write_bytes,
    write_json,
)
from results.schema import SCHEMA_VERSION, Item, Record, RunInfo
from results.stages import Stages

__all__ = ["RunFolder", "Stages", "StoreError", "dump_items", "load_items"]

RUN = "run.yaml"
RECORD = "record.json"
ITEMS = "items.jsonl.gz"


class RunFolder:
    """A named set of cells and everything known about them.

    The folder's plan is that of the latest `create`: cells of earlier plans stay on disk and count again as soon
    as they are planned again, but reports show what was asked for last.
    """

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def create(cls, path: Path, info: RunInfo) -> RunFolder:
        """Start a run, or take an existing folder up again with a new plan; finished cells are kept."""
        make_folder(path / "cells")
        text = yaml.safe_dump(info.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        write_bytes(path / RUN, text.encode())
        return cls(path, info)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            StoreError: the folder is no run, or its `run.yaml` cannot be read.
        """
        try:
            data = yaml.safe_load((path / RUN).read_text())
            return cls(path, RunInfo.model_validate(data))
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{path} is not a run: give a folder that `harness run` wrote.") from None
        except (yaml.YAMLError, pydantic.ValidationError):
            raise StoreError(f"{path / RUN} cannot be read; run the command that made it again.") from None

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
        record = read_json(folder / RECORD, Record)
        if record.schema_version > SCHEMA_VERSION:
            raise StoreError(
                f"{folder / RECORD} has schema {record.schema_version}, newer than {SCHEMA_VERSION}; "
                "update the harness to read it."
            )
        return record

    def finished(self, cell: str) -> bool:
        """Whether the cell need not be computed again; failed and refused cells are tried again."""
        record = self.record(cell)
        return record is not None and record.status == "done"

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
            return load_items(path.read_bytes())
        except (OSError, EOFError, pydantic.ValidationError):
            raise StoreError(f"{path} is missing or damaged; remove its folder and run again.") from None

    def verify(self) -> list[str]:
        """Sentences on everything stored that does not fit together; empty when all is well."""
        problems = []
        for planned in {planned.cell: planned for planned in self.info.cells}.values():
            record = self.record(planned.cell)
            if record is None:
                problems.append(f"{planned.cell} ({planned.method} on {planned.task}) is not finished.")
                continue
            name = f"{planned.cell} ({record.spec.method} on {record.spec.task})"
            problems += [
                f"{name}: {file} is not the file that was written."
                for file in changed_files(self.cell_folder(planned.cell))
            ]
            if record.cell != planned.cell or digest(record.spec) != record.cell:
                problems.append(f"{name}: its name is not the hash of its specification.")
            if record.status == "done":
                items = self.items(planned.cell)
                if len(items) != record.n_items:
                    problems.append(f"{name}: the number of stored items is not {record.n_items}.")
                problems += [
                    f"{name}: {metric} is not the mean of its items; score them again with `harness rescore`."
                    for metric in _disagreeing(record, items)
                ]
        return problems

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes on this machine from writing to this run.

        Raises:
            StoreError: another process is writing to it.
        """
        from filelock import FileLock, Timeout

        guard = FileLock(self.path / ".lock", timeout=0)
        try:
            guard.acquire()
        except Timeout:
            raise StoreError(
                f"Another process is writing to {self.path}; wait for it or choose another --output."
            ) from None
        try:
            yield
        finally:
            guard.release()


def _disagreeing(record: Record, items: Iterable[Item]) -> list[str]:
    """The primary metric, when it is not the mean of the items that have a verdict."""
    stored = record.metrics.get(record.primary)
    values = [v for item in items if (v := item.metrics.get(record.primary)) is not None]
    if stored is None or not values or math.isclose(stored.value, sum(values) / len(values), abs_tol=1e-9):
        return []
    return [record.primary]


def dump_items(items: Iterable[Item]) -> bytes:
    """Gzipped JSON lines, equal bytes for equal items."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        for item in items:
            stream.write(item.model_dump_json().encode() + b"\n")
    return buffer.getvalue()


def load_items(data: bytes) -> list[Item]:
    """Inverse of `dump_items`."""
    return [Item.model_validate_json(line) for line in gzip.decompress(data).splitlines()]
