"""A store in memory that writes conditionally, and what goes wrong with stores."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFileSystem

from results.ground.network import Network

URL = "memory://bucket/stages"


class Memory(MemoryFileSystem):
    """fsspec's file system in memory, its content its own and conditional writes as one step.

    `trouble` is called before every operation with its name and the path; it may raise or sleep, and when it returns
    `lost`, a write is lost.
    """

    cachable = False
    store: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.store = {}  # type: ignore[misc]
        self.pseudo_dirs = [""]
        self.guard = threading.RLock()
        self.trouble: Callable[[str, str], str | None] = lambda operation, path: None

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        lost = self.trouble("write", path)
        with self.guard:
            if mode == "create" and self.exists(path):
                raise FileExistsError(path)
            if lost is None:
                super().pipe_file(path, value, **kwargs)

    def put_file(self, lpath: str, rpath: str, *arguments: Any, **kwargs: Any) -> None:
        if self.trouble("write", rpath) is None:
            with open(lpath, "rb") as file:
                super().pipe_file(rpath, file.read())

    def cat_file(self, path: str, *arguments: Any, **kwargs: Any) -> bytes:
        self.trouble("read", path)
        return bytes(super().cat_file(path, *arguments, **kwargs))

    def get_file(self, rpath: str, lpath: str, *arguments: Any, **kwargs: Any) -> None:
        self.trouble("read", rpath)
        super().get_file(rpath, lpath, *arguments, **kwargs)

    def ls(self, path: str, *arguments: Any, **kwargs: Any) -> Any:
        self.trouble("list", path)
        return super().ls(path, *arguments, **kwargs)

    def held(self) -> list[str]:
        """Names of all objects, below the store's own prefix."""
        return sorted(name.removeprefix("/bucket/stages/") for name in self.store)


class Overwrites(Memory):
    """A server that does not know `If-None-Match`."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value)


def network(memory: Any, **settings: Any) -> Network:
    """A store that is not waited for."""
    return Network(URL, filesystem=memory, **{"pause": 0.001} | settings)


def first(times: int, act: Callable[[], str | None], operation: str = "write") -> Callable[[str, str], str | None]:
    """Trouble with so many of the operations of one name."""
    seen = itertools.count()
    return lambda name, path: act() if name == operation and next(seen) < times else None


def fails() -> str | None:
    """A server's error, which says more than it should."""
    raise OSError("503 Slow Down at http://10.1.2.3:9000 for AKIAEXAMPLE")


def hangs() -> str | None:
    """No answer for longer than anybody waits."""
    time.sleep(0.25)
    return None


def loses() -> str | None:
    """A write that is answered and is not there."""
    return "lost"
