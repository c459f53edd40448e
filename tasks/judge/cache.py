"""Replies on disk, so that no paid request is ever made twice.

What is stored is the reply itself, not what was read from it: a better parser reads old replies anew. Failures are
never stored. The folder is its owner's alone (0700, files 0600). A damaged database is set aside under another name
and one sentence says so; a damaged entry counts as not there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from diskcache import Cache, JSONDisk, Timeout
from diskcache.core import MODE_PICKLE

from results.ground.digest import row_digest
from results.ground.errors import HarnessError

T = TypeVar("T")

log = logging.getLogger(__name__)

_DAMAGED = (sqlite3.DatabaseError, KeyError, TypeError, EOFError)
_INSIDE = 2**30
"""Bytes up to which a value lies in the database itself, whose rights SQLite gives to all its files."""


class CacheUnusable(HarnessError, ValueError):
    """The folder of replies can be neither read nor written. One sentence that names the mend."""


class _Foreign(sqlite3.DatabaseError):
    """The database holds pickled values: it is not ours."""


class _PlainDisk(JSONDisk):
    """JSON only: a database that holds pickled values (it is not ours) is set aside instead of being executed."""

    def get(self, key: Any, raw: bool) -> Any:
        if not raw:
            raise _Foreign("a pickled key")
        return super().get(key, raw)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_PICKLE:
            raise _Foreign("a pickled value")
        return super().fetch(mode, filename, value, read)


class ReplyCache:
    """Replies by key. Nothing is ever evicted; a write is on disk when `put` returns (SIGKILL and power cut)."""

    def __init__(self, folder: Path) -> None:
        """Open or make the folder.

        Raises:
            CacheUnusable: it cannot be made, read or written.
        """
        self.folder = Path(folder)
        self._cache = self._guarded(self._open, self._open)

    def get(self, key: str) -> dict[str, Any] | None:
        """The stored reply, or None."""

        def found() -> Any:
            try:
                return self._cache.get(key)
            except (zlib.error, ValueError, UnicodeError, OSError):
                log.warning("An entry of the reply cache %s is damaged: it is asked anew.", self.folder)
                return None

        value = self._guarded(found, lambda: None)
        return value if isinstance(value, dict) else None

    def put(self, key: str, reply: dict[str, Any]) -> None:
        """Store a reply (JSON data)."""

        def store() -> None:
            self._cache.set(key, reply)

        self._guarded(store, store)

    def __len__(self) -> int:
        return len(self._cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cache.close()

    def _guarded(self, work: Callable[[], T], again: Callable[[], T]) -> T:
        """Do `work`; where the database proves damaged set it aside, open a new one, and do `again`."""
        try:
            return work()
        except sqlite3.OperationalError as error:
            if _is_lasting(error):
                raise CacheUnusable(self._unusable(error)) from error
            self._set_aside(error)
        except _DAMAGED as error:
            self._set_aside(error)
        except (OSError, Timeout) as error:
            raise CacheUnusable(self._unusable(error)) from error
        try:
            if work != self._open:
                self._cache = self._open()
            return again()
        except (OSError, Timeout, sqlite3.Error) as error:
            raise CacheUnusable(self._unusable(error)) from error

    def _open(self) -> Cache:
        if self.folder.exists() and not self.folder.is_dir():
            raise sqlite3.DatabaseError("it is a file, not a folder")
        _make_private(self.folder)
        cache = Cache(
            str(self.folder),
            disk=_PlainDisk,
            eviction_policy="none",
            cull_limit=0,
            sqlite_synchronous=2,
            disk_min_file_size=_INSIDE,
        )
        _tighten(self.folder)
        return cache

    def _set_aside(self, error: Exception) -> None:
        with contextlib.suppress(Exception):
            self._cache.close()
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.damaged-{number}")).exists():
            number += 1
        try:
            self.folder.rename(aside)
        except OSError as refused:
            raise CacheUnusable(self._unusable(refused)) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("The reply cache %s was damaged (%s): it is kept as %s, and replies are asked anew.",
                    self.folder, reason, aside.name)  # fmt: skip

    def _unusable(self, error: Exception) -> str:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"The reply cache {self.folder} cannot be used ({reason}): free it, or name another cache folder."


def _is_lasting(error: sqlite3.OperationalError) -> bool:
    """Whether SQLite says that the place is at fault (full, read-only, locked), not the data."""
    text = str(error).lower()
    return any(word in text for word in ("readonly", "full", "locked", "unable to open", "disk i/o", "busy"))


def _make_private(folder: Path) -> None:
    """Make folder and database with the owner's rights alone, before anything is written."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _tighten(folder)
    os.close(os.open(folder / "cache.db", os.O_CREAT | os.O_RDWR, 0o600))


def _tighten(folder: Path) -> None:
    """Take all rights from group and others, as far as the files are ours: earlier versions left them readable."""
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(OSError):
            if not path.is_symlink():
                path.chmod(0o700 if path.is_dir() else 0o600)


def reply_key(*parts: Any) -> str:
    """Key of a reply: a hash of everything that determines it."""
    return row_digest(list(parts), 40)
