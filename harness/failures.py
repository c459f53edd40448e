"""What becomes of a failure: a sentence in a record, the end of the run, or a second try in less memory."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from results.ground.damage import PlaceError, damage, full, said_of
from results.ground.errors import HarnessError

FAILURES = "failures.log"
"""File of a run with the whole text of every unexpected failure."""

T = TypeVar("T")


def reason(what: str, error: Exception, run: Path, store: Path) -> str:
    """One line on a failure; the whole of one that is nobody's mistake goes to the run's `failures.log`.

    Args:
        what: was being done.
        error: that ended it.
        run: folder of the run.
        store: where stages are kept.

    Raises:
        PlaceError: a disk is full or a store cannot be used: whatever is computed next would be lost as well.
    """
    if isinstance(error, PlaceError):
        raise error
    if full(error):
        raise damage(error, store) or error
    if isinstance(error, HarnessError):
        return str(error)
    with said_of(run / FAILURES), (run / FAILURES).open("a", encoding="utf-8", errors="replace") as log:
        log.write(f"{what}\n{''.join(traceback.format_exception(error))}\n")
    return f"{type(error).__name__}: {error}".splitlines()[0]


def out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the device, or of the machine, did not suffice."""
    text = str(error).lower()
    allocator = "defaultcpuallocator" in text or "can't allocate memory" in text or "out of memory" in text
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and allocator)


def in_less_memory(
    compute: Callable[[int], T], size: int, *, least: int = 1, may: Callable[[], bool] = lambda: True
) -> tuple[T, int]:
    """What `compute` gives for `size`, halved as often as memory does not suffice, and the size that did.

    Args:
        compute: something whose result does not depend on the size.
        size: to begin with.
        least: that is tried.
        may: whether that is so; asked once memory has not sufficed.
    """
    while True:
        try:
            return compute(size), size
        except Exception as error:
            if not out_of_memory(error) or size // 2 < least or not may():
                raise
        # Outside the handler: the traceback holds the tensors of the failed try.
        size //= 2
        _empty()


def _empty() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
