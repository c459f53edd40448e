"""What becomes of a failure: a sentence in a record, the end of the run, or a second try in less memory."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import TypeVar

from harness.interrupts import insist
from results.ground.damage import PlaceError, damage, full, said_of
from results.ground.errors import HarnessError
from results.ground.files import make_folder, write_bytes

FAILURES = "failures.log"
"""File of a run with the whole text of every unexpected failure."""

TRIED = "failed"
"""Folder of a run that several processes compute: a file for each stage that one of them could not make."""

T = TypeVar("T")


class SharedFailures(MutableMapping[str, str]):
    """Reasons by key of the stages that could not be made, kept in a folder: what one of several processes tried in
    vain, no other one tries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, key: str) -> str:
        try:
            return (self.folder / key).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, reason: str) -> None:
        make_folder(self.folder)
        write_bytes(self.folder / key, reason.encode("utf-8", "replace"))

    def __delitem__(self, key: str) -> None:
        try:
            (self.folder / key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self.folder.glob("[!.]*"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def reason(what: str, error: Exception, run: Path, store: Path) -> str:
    """One line on a failure; the whole of one that is nobody's mistake goes to the run's `failures.log`.

    Args:
        what: was being done.
        error: that ended it.
        run: folder of the run.
        store: where stages are kept.

    Raises:
        PlaceError: a disk is full or a store cannot be used: whatever is computed next would be lost as well.
        Ended: it is no failure, but what a library made of the end that the process was told.
    """
    insist()
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
