"""One unit after another in this process, alone or as one of several on a store."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.progress import Progress

LOCAL = "local"
SHARED = "shared"
SLURM = "slurm"
"""Submits a run instead of computing it (`harness.executors.slurm`)."""

_SHORTEST, _LONGEST = 0.2, 5.0
"""Seconds between two looks at what other processes are at."""


@contextmanager
def settled() -> Iterator[None]:
    """What exists at the start stays: the collection of garbage that begins every fit looks at what came after.

    Looking through all modules and rows takes a third of a second. Whoever has frozen them already is left alone.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def local(engines: Sequence[Engine], progress: Progress, workers: int | None = None) -> None:
    """One unit after another, one engine after another, each base model loaded once; `workers` is not needed.

    Processes that share a stage store divide the work: what another one is at is left to it, and waited for once there
    is nothing else to do.
    """
    for engine in engines:
        _compute(engine, progress)


def _compute(engine: Engine, progress: Progress) -> None:
    pause, waited = _SHORTEST, ""
    while units := engine.units():
        waits = [unit(progress) for unit in units]
        if None in waits:
            pause = _SHORTEST
            continue
        wait = next(wait for wait in waits if wait is not None)
        said = f"Waiting for {wait.name}: {engine.stages.claimant(wait.kind, wait.key)} computes it."
        if said != waited:
            sys.stderr.write(f"harness: {said}\n")
        waited = said
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
