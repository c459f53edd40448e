"""Several processes of this machine compute one run, where one alone leaves cores waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.executors.local import SHARED
from harness.planning.graph import check_workers
from harness.progress import Progress
from results.ground.errors import HarnessError
from results.ground.files import make_folder

if TYPE_CHECKING:
    from harness.runs import Run
    from results.schema import Record

FOLDER = "processes"
"""Folder of a run with the log of every process but the first, which is the one that was called."""


def several(run: Run, workers: int, progress: Progress | None = None) -> list[Record]:
    """Compute a run in this process and `workers - 1` others beside it, which share the cores and divide the units.

    One thread is rarely half as fast as two: small products gain little from a second one. Each process holds a base
    model and what it works at, so memory is needed once for each.

    Args:
        run: as it is to be computed.
        workers: processes, this one counted.
        progress: the display; by default one on standard error, of this process's share.

    Returns:
        The records of the whole run.

    Raises:
        HarnessError: no room for so many, or what `Run.compute` raises.
    """
    import torch

    units = run.units()
    if check_workers(workers) == 1 or not units:
        return run.compute(progress=progress)
    run.ready()
    _require_memory(run, workers)
    run.share()
    before = torch.get_num_threads()
    threads = max(1, before // workers)
    seconds = sum(unit.seconds for unit in units) / workers
    torch.set_num_threads(threads)
    try:
        with _others(run, workers - 1, threads):
            return run.compute(SHARED, progress or Progress(seconds))
    finally:
        torch.set_num_threads(before)


@contextmanager
def _others(run: Run, count: int, threads: int) -> Iterator[None]:
    """So many processes at work on a run that is planned; where the block raises, they are told to end."""
    from harness.assets import cache_root

    environment = os.environ | {
        "HARNESS_STAGES": run.stages.address,
        "HARNESS_CACHE": str(cache_root().resolve()),
        "OMP_NUM_THREADS": str(threads),
    }
    command = [sys.executable, "-m", "harness", "run", "--into", str(run.path.resolve()), "--executor", SHARED]
    with ExitStack() as stack:
        make_folder(run.path / FOLDER)
        logs = [run.path / FOLDER / f"{number}.log" for number in range(2, count + 2)]
        files = [stack.enter_context(log.open("wb")) for log in logs]
        others = [subprocess.Popen(command, env=environment, stdout=file, stderr=file) for file in files]
        try:
            yield
        except BaseException:
            for other in others:
                other.terminate()
            raise
        finally:
            codes = [other.wait() for other in others]
        _tell(run, logs, codes)


def _tell(run: Run, logs: Sequence[Path], codes: Sequence[int]) -> None:
    """One line for each process that ended otherwise than with its work done: the others have done it. Exit code 1 says
    that cells failed, and where none did, that the process itself broke."""
    usual = {0, 1} if any(record.status != "done" for record in run.folder.records()) else {0}
    for log, code in zip(logs, codes, strict=True):
        if code not in usual:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            sys.stderr.write(f"harness: A process ended with {how}, and the others did its work; it said: {log}\n")


def _require_memory(run: Run, workers: int) -> None:
    """Raises:
    HarnessError: on a processor, where so many processes take more memory than is free, by the plan's estimate.
    """
    import psutil

    if any(engine.device != "cpu" for engine in run.engines):
        return
    need = workers * max(engine.facts.memory for engine in run.engines)
    free = psutil.virtual_memory().available
    if need > free:
        raise HarnessError(
            f"{workers} processes need about {need / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free: "
            f"ask for fewer --workers."
        )
