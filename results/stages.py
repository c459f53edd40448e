"""The stage store: experts, composed models and other intermediate results, named by what determines them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from results.ground.damage import StoreError
from results.ground.files import (
    DAMAGED,
    MARKER,
    atomic_folder,
    changed_files,
    faults,
    is_finished,
    set_aside,
    stamp,
    sweep,
    write_json,
)
from results.ground.locks import claimed, forget, holder
from results.ground.reading import file_bytes, json_value

META = "meta.json"
LOCKS = "locks"
EXPERT, COMPOSED, OUTPUTS = "expert", "composed", "outputs"
"""Kinds of stages: trained experts, fitted models, raw outputs of one model on one task."""


class Wait(NamedTuple):
    """A stage that another process computes: kind, key, and what it is in words."""

    kind: str
    key: str
    name: str


class Stages:
    """Finished stages under `root/<kind>/<key>/`, shared by runs and by processes.

    `key` is a hash of everything that determines the stage and of nothing else. A stage is there as a whole or
    not at all. Processes that hold `claim` while they compute one divide the work; should two compute the same one all
    the same, both end well, and the first to finish is kept. `find` looks at names and sizes, `load` at every byte.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser()
        self._sound: dict[Path, list[list[Any]]] = {}

    def path(self, kind: str, key: str) -> Path:
        """Where the stage is, or would be."""
        for part in (kind, key):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part):
                raise ValueError(f"not a name for a stage: {part!r}")
        return self.root / kind / key

    def find(self, kind: str, key: str) -> Path | None:
        """Folder of a finished stage whose files have their sizes; None when it is missing or was cut off.

        Raises:
            StoreError: a newer version of the harness wrote it.
        """
        folder = self.path(kind, key)
        return folder if is_finished(folder) else None

    def load(self, kind: str, key: str) -> Path | None:
        """Folder of a stage to be used: every byte is what was written. None when it is missing, or was damaged.

        A damaged one is set aside, which one line on standard error says, so that it is computed again. Whatever has
        been read once is read again only when its files' stamps have changed (`results.ground.files.stamp`).

        Raises:
            StoreError: a newer version of the harness wrote it.
            PlaceError: it is damaged and cannot be set aside.
        """
        folder = self.path(kind, key)
        now = stamp(folder) if is_finished(folder) else None
        if now is not None and self._sound.get(folder) == now:
            return folder
        if now is None and not (folder / MARKER).is_file():
            return None  # not there, or cut off before it was whole: the next to compute it takes its place
        if now is not None and not changed_files(folder):
            self._sound[folder] = now
            return folder
        set_aside(folder, self.root / DAMAGED)
        return self.load(kind, key)

    def faults(self, kind: str, key: str) -> list[str] | None:
        """What is wrong with a stage, every byte of it read, and nothing changed; None where there is none."""
        folder = self.path(kind, key)
        if not (folder / MARKER).is_file():
            return None
        try:
            return faults(folder)
        except StoreError as error:
            return [str(error).rstrip(".")]

    @contextmanager
    def claim(self, kind: str, key: str) -> Iterator[bool]:
        """Try to be the one that computes a stage: False inside the block when another process is at it.

        The claim of a process that dies ends with it.

        Raises:
            PlaceError: the store cannot be written to.
        """
        with claimed(self._lock(kind, key)) as held:
            yield held

    def claimant(self, kind: str, key: str) -> str:
        """Who computes a stage, in words."""
        return holder(self._lock(kind, key))

    def _lock(self, kind: str, key: str) -> Path:
        self.path(kind, key)
        return self.root / LOCKS / f"{kind}-{key}.lock"

    @contextmanager
    def create(self, kind: str, key: str, meta: dict[str, Any] | None = None) -> Iterator[Path]:
        """A folder to fill; it becomes `path(kind, key)` when the block ends and vanishes when it raises.

        Args:
            meta: JSON data kept beside the result (what determined it, what it cost); more may be written to
                `meta.json` of the yielded folder inside the block.
        """
        with atomic_folder(self.path(kind, key)) as folder:
            if meta is not None:
                write_json(folder / META, meta)
            yield folder

    def sweep(self) -> None:
        """Remove what killed processes left half-written."""
        for kind in (EXPERT, COMPOSED, OUTPUTS):
            sweep(self.root / kind)
        forget(self.root / LOCKS)

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The JSON data of a finished stage; empty when it was stored without any.

        Raises:
            KeyError: there is no such finished stage, or no whole one.
        """
        folder = self.load(kind, key)
        if folder is None:
            raise KeyError(f"{kind}/{key}")
        path = folder / META
        return dict(json_value(file_bytes(path))) if path.exists() else {}
