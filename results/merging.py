"""Runs of several machines as one. Cells are named by their content, so that nothing is lost or counted twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from results.ground.files import StoreError
from results.planned import extended
from results.schema import Record, RunInfo
from results.store import RunFolder


def merge(paths: Sequence[Path], target: Path) -> RunFolder:
    """One run with the plans and cells of several; they stay as they are.

    Where several hold a cell, a finished one is taken.

    Args:
        paths: at least two runs.
        target: a new or empty folder.

    Raises:
        StoreError: one is no run, two hold the same cell with other settings, versions or data, or `target` is not
            empty.
    """
    if len(paths) < 2:
        raise StoreError("A merge needs two runs: name another.")
    folders = [RunFolder.open(path) for path in paths]
    if RunFolder.find(target) is not None:
        raise StoreError(f"{target} holds a run already: choose another --output.")
    whole = folders[0].info.model_copy(update={"name": target.name})
    for folder in folders[1:]:
        _check_equal(whole, folder)
        whole = extended(whole, folder.info)
    merged = RunFolder(target, whole)
    with merged.lock():
        merged.write_plan(whole)
        for cell, folder in homes(folders).items():
            _copy(folder.cell_folder(cell), merged.cell_folder(cell))
    return merged


def _check_equal(whole: RunInfo, folder: RunFolder) -> None:
    places = {cell.place: cell.cell for cell in whole.cells}
    for cell in folder.info.cells:
        if places.get(cell.place, cell.cell) != cell.cell:
            raise StoreError(
                f"{folder.path} holds {cell.method} on {cell.task} (seed {cell.seed}) with other settings, versions or "
                "data than a run before it: merge runs of equal ones, or compare them with `harness compare`."
            )


def _copy(source: Path, target: Path) -> None:
    staging = target.with_name(f".staging-{target.name}")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(source, staging)
    staging.rename(target)


def together(folders: Sequence[RunFolder]) -> list[Record]:
    """Records of several runs to be compared, each cell once, as the first of them has it that has finished it.

    A method that two runs computed differently on one task and seed carries the run's name behind its own.
    """
    records: dict[str, Record] = {}
    cells: dict[tuple[str, str, str, int], set[str]] = {}
    owners = homes(folders)
    for cell, folder in owners.items():
        record = folder.record(cell)
        assert record is not None
        records[cell] = record
        spec = record.spec
        cells.setdefault((record.model.label, spec.method, spec.task, spec.seed), set()).add(cell)
    twice = {(model, method) for (model, method, _, _), own in cells.items() if len(own) > 1}
    return [
        record.model_copy(
            update={
                "spec": record.spec.model_copy(update={"method": f"{record.spec.method} ({owners[cell].path.name})"})
            }
        )
        if (record.model.label, record.spec.method) in twice
        else record
        for cell, record in records.items()
    ]


def homes(folders: Sequence[RunFolder]) -> dict[str, RunFolder]:
    """The folder of each cell that some of these hold, in the order of their plans: the first that has finished it,
    else the first that has tried."""
    found: dict[str, RunFolder] = {}
    finished: set[str] = set()
    for folder in folders:
        for record in folder.records():
            if record.cell not in found or (record.cell not in finished and record.status == "done"):
                found[record.cell] = folder
            finished |= {record.cell} if record.status == "done" else set()
    return found
