"""Locks between processes, that say who holds them and that end with their holder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic

from results.ground import owners
from results.ground.damage import PlaceError, said_of
from results.ground.reading import Unreadable, file_bytes

_OWNER = ".owner"


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Try to hold a lock: True inside the block when it is held, False when another process has it.

    The kernel's own lock (flock), which ends with the process however that ends; who holds it is written beside it.

    Raises:
        PlaceError: there can be no lock there.
    """
    from filelock import FileLock, Timeout

    guard = FileLock(path, timeout=0)
    with said_of(path.parent):
        _make(path.parent)
        try:
            guard.acquire()
        except Timeout:
            held = False
        else:
            held = True
    if not held:
        yield False
        return
    note = _note(path)
    try:
        with contextlib.suppress(OSError):  # who holds it is for people to read, the lock is held all the same
            note.write_text(owners.myself().model_dump_json())
        yield True
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        guard.release()


@contextmanager
def joined(path: Path) -> Iterator[bool]:
    """Try to hold a lock together with others that hold it so: False inside the block when one process has it alone.

    While anybody holds it so, nobody gets it alone (`claimed`).

    Raises:
        PlaceError: there can be no lock there.
    """
    import fcntl

    with said_of(path.parent):
        _make(path.parent)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with said_of(path.parent):
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                held = False
            else:
                held = True
        yield held
    finally:
        os.close(file)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, after waiting for it as long as that takes.

    Raises:
        PlaceError: there can be no lock there.
    """
    from filelock import FileLock

    guard = FileLock(path)
    with said_of(path.parent):
        _make(path.parent)
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


def holder(path: Path) -> str:
    """Who holds a lock, in words; `another process` where that is not known."""
    try:
        return owners.Owner.model_validate_json(file_bytes(_note(path))).said()
    except (OSError, Unreadable, pydantic.ValidationError):
        return "another process"


def forget(folder: Path) -> None:
    """Remove the notes that processes which have ended left beside their locks."""
    for note in folder.glob(f"*{_OWNER}"):
        with contextlib.suppress(OSError, pydantic.ValidationError):
            if owners.Owner.model_validate_json(note.read_bytes()).gone():
                note.unlink()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # below /proc and the like no folder can be made, whatever its name
        raise PlaceError(f"The folder {folder} cannot be made: choose another place.") from error


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}{_OWNER}")
