"""What a stage that is not finished has come to: parts that whoever computes it goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from results.ground.files import MARKER, StoreError, atomic_folder, changed_files
from results.ground.locks import claimed

PARTIAL = "partial"
"""Folder of a stage store that holds a folder `<kind>-<key>` for each unfinished stage that has parts."""


class Partial:
    """Parts of one unfinished stage, each a folder that is whole or not there, with the SHA-256 of its files.

    One process alone writes them: the first to look at what is there, or to add something, until `release`.

    Args:
        folder: of the parts; made with the first.
        lock: file that is locked meanwhile.
    """

    def __init__(self, folder: Path, lock: Path) -> None:
        self.folder = folder
        self._lock = lock
        self._claims = ExitStack()
        self._held: bool | None = None

    def held(self) -> bool:
        """Whether the parts are this process's: False where another one computes the same stage."""
        if self._held is None:
            self._held = self._claims.enter_context(claimed(self._lock))
        return self._held

    def names(self) -> list[str]:
        """Names of the parts that were brought to their end, sorted; what they hold is not looked at."""
        if not self.folder.is_dir() or not self.held():
            return []
        return sorted(path.name for path in self.folder.iterdir() if (path / MARKER).is_file() and path.name[0] != ".")

    def part(self, name: str) -> Path:
        """Folder of a part, every byte of which is what was written.

        Raises:
            StoreError: it is not; the message is a clause.
        """
        path = self.folder / name
        if changed := changed_files(path):
            raise StoreError(f"{name}/{changed[0]} is not the file that was written")
        return path

    @contextmanager
    def add(self, name: str) -> Iterator[Path]:
        """A folder to fill, which becomes a part when the block ends.

        Raises:
            PlaceError: the disk is full, or the place cannot be written to.
        """
        with atomic_folder(self.folder / name) as path:
            yield path

    def drop(self, name: str) -> None:
        """Remove a part; the marker first, so that one that is cut off is none."""
        (self.folder / name / MARKER).unlink(missing_ok=True)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def clear(self) -> None:
        """Remove everything, later parts first: what the earlier ones are for goes before them."""
        if self.folder.is_dir() and self.held():
            for name in reversed(self.names()):
                self.drop(name)
            shutil.rmtree(self.folder, ignore_errors=True)

    def release(self) -> None:
        """Leave the parts to others."""
        self._claims.close()
        self._held = None
