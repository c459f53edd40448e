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
        for cell, (folder, _) in homes(folders).items():
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


def together(folders: Sequence[RunFolder]) -> dict[str, tuple[RunFolder, Record]]:
    """Cells of several runs to be compared, each once, with folder and record (`homes`).

    A method that two runs computed differently on one task and seed carries the run's name behind its own.
    """
    held = homes(folders)
    cells: dict[tuple[str, str, str, int], set[str]] = {}
    for cell, (_, record) in held.items():
        spec = record.spec
        cells.setdefault((record.model.label, spec.method, spec.task, spec.seed), set()).add(cell)
    twice = {(model, method) for (model, method, _, _), own in cells.items() if len(own) > 1}
    return {
        cell: (folder, _named(record, folder) if (record.model.label, record.spec.method) in twice else record)
        for cell, (folder, record) in held.items()
    }


def _named(record: Record, folder: RunFolder) -> Record:
    spec = record.spec.model_copy(update={"method": f"{record.spec.method} ({folder.path.name})"})
    return record.model_copy(update={"spec": spec})


def homes(folders: Sequence[RunFolder]) -> dict[str, tuple[RunFolder, Record]]:
    """The folder of each cell that some of these hold, and its record, in the order of their plans: of the first that
    has finished it, else of the first that has tried."""
    found: dict[str, tuple[RunFolder, Record]] = {}
    for folder in folders:
        for record in folder.records():
            known = found.get(record.cell)
            if known is None or (known[1].status != "done" and record.status == "done"):
                found[record.cell] = folder, record
    return found
