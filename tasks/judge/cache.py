"""Replies on disk, so that no paid request is ever made twice.

What is stored is the reply itself, not what was read from it: a better parser reads old replies anew. Failures are
never stored.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from diskcache import Cache, JSONDisk
from diskcache.core import MODE_PICKLE

from results.ground.digest import row_digest


class _PlainDisk(JSONDisk):
    """JSON only: a database that holds pickled values (it is not ours) is refused instead of being executed."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_PICKLE:
            raise ValueError(f"The reply cache {self._directory} holds a pickled value: delete the folder.")
        return super().fetch(mode, filename, value, read)


class ReplyCache:
    """Replies by key. Nothing is ever evicted; a write is on disk when `put` returns (SIGKILL and power cut)."""

    def __init__(self, folder: Path) -> None:
        self._cache = Cache(
            str(folder),
            disk=_PlainDisk,
            eviction_policy="none",
            cull_limit=0,
            sqlite_synchronous=2,
        )

    def get(self, key: str) -> dict[str, Any] | None:
        """The stored reply, or None."""
        found = self._cache.get(key)
        return found if isinstance(found, dict) else None

    def put(self, key: str, reply: dict[str, Any]) -> None:
        """Store a reply (JSON data)."""
        self._cache.set(key, reply)

    def __len__(self) -> int:
        return len(self._cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cache.close()


def reply_key(*parts: Any) -> str:
    """Key of a reply: a hash of everything that determines it."""
    return row_digest(list(parts), 40)
