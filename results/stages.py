"""The stage store: experts, composed models and other intermediate results, named by what determines them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from results.claims import PATIENCE
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
from results.ground.network import Network
from results.ground.reading import file_bytes, json_value
from results.partial import PARTIAL, Partial
from results.remote import Remote

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

    With a remote store behind it, which machines without a common file system share, a folder is what is worked in:
    `load` brings there what the remote has and the folder lacks, `create` and `load` bring to the remote what it lacks,
    and `claim` claims there, too.

    Args:
        root: the folder.
        remote: the store behind it; None where there is none.
    """

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        self.root = root.expanduser()
        self.remote = remote
        self._sound: dict[Path, list[list[Any]]] = {}

    @classmethod
    def at(cls, address: str | Path, local: Path, patience: float = PATIENCE) -> Stages:
        """The store at an address (`Stages.address`).

        Args:
            address: a folder, or a URL of fsspec (`s3://bucket/prefix`).
            local: the folder to work in, where the address is a URL.
            patience: seconds of silence after which a claim on the remote may be taken over.

        Raises:
            HarnessError: the URL cannot be one of a store.
        """
        if "://" not in str(address):
            return cls(Path(address))
        if str(address).startswith("file://"):
            return cls(Path(str(address).removeprefix("file://")))
        return cls(local, Remote(Network(str(address)), patience))

    @property
    def address(self) -> str:
        """What other processes open the store by (`at`): its URL, or its whole path."""
        return self.remote.network.url if self.remote else str(self.root.resolve())

    def require(self) -> None:
        """See that a remote store can be used, before anything is computed for it.

        Raises:
            PlaceError: it cannot be written to or read from, or two processes could get one claim on it.
        """
        if self.remote:
            self.remote.require()

    def path(self, kind: str, key: str) -> Path:
        """Where the stage is, or would be."""
        for part in (kind, key):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part):
                raise ValueError(f"not a name for a stage: {part!r}")
        return self.root / kind / key

    def find(self, kind: str, key: str) -> Path | None:
        """Folder of a finished stage whose files have their sizes; None when it is missing or was cut off.

        Of one that only the remote store has it is where `load` will put it.

        Raises:
            StoreError: a newer version of the harness wrote it.
        """
        folder = self.path(kind, key)
        return folder if is_finished(folder) or (self.remote and self.remote.has(kind, key)) else None

    def load(self, kind: str, key: str) -> Path | None:
        """Folder of a stage to be used: every byte is what was written. None when it is missing, or was damaged.

        A damaged one is set aside, which one line on standard error says, so that it is computed again. Whatever has
        been read once is read again only when its files' stamps have changed (`results.ground.files.stamp`).

        Raises:
            StoreError: a newer version of the harness wrote it.
            PlaceError: it is damaged and cannot be set aside, or the remote store cannot be used.
        """
        found = self._load(kind, key)
        if self.remote is None:
            return found
        if found is not None:
            self._keep(self.remote, kind, key, found)
            return found
        return self._load(kind, key) if self.remote.fetch(kind, key, self.path(kind, key)) else None

    def _keep(self, remote: Remote, kind: str, key: str, folder: Path) -> None:
        """Bring a stage of the folder to the remote store, unless that has it or its claimant is about to."""
        if remote.claims_it(kind, key):
            remote.push(kind, key, folder)
        elif not remote.has(kind, key):
            with self.claim(kind, key) as mine:
                if mine:
                    remote.push(kind, key, folder)

    def _load(self, kind: str, key: str) -> Path | None:
        """`load` from the folder alone."""
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
        return self._load(kind, key)

    def faults(self, kind: str, key: str) -> list[str] | None:
        """What is wrong with a stage, every byte of it read, and nothing changed; None where there is none."""
        folder = self.path(kind, key)
        if not (folder / MARKER).is_file():
            return self.remote.faults(kind, key) if self.remote else None
        try:
            return faults(folder)
        except StoreError as error:
            return [str(error).rstrip(".")]

    @contextmanager
    def claim(self, kind: str, key: str) -> Iterator[bool]:
        """Try to be the one that computes a stage: False inside the block when another process is at it.

        The claim of a process that dies ends with it; on a remote store, where that cannot be known, once it has been
        silent for some time (`results.claims`).

        Raises:
            PlaceError: the store cannot be written to.
        """
        with ExitStack() as claims:
            held = claims.enter_context(claimed(self._lock(kind, key)))
            yield held and (self.remote is None or claims.enter_context(self.remote.claimed(kind, key)))

    def claimant(self, kind: str, key: str) -> str:
        """Who computes a stage, in words."""
        owner = self.remote.holder(kind, key) if self.remote else None
        return owner.said() if owner else holder(self._lock(kind, key))

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
        if self.remote:
            self.remote.push(kind, key, self.path(kind, key))

    def partial(self, kind: str, key: str) -> Partial:
        """What an unfinished stage has come to; on this machine alone, whatever stands behind the folder."""
        self.path(kind, key)
        lock = self.root / LOCKS / f"{PARTIAL}-{kind}-{key}.lock"
        return Partial(self.root / PARTIAL / f"{kind}-{key}", lock)

    def sweep(self) -> None:
        """Remove what killed processes left half-written, and parts of stages that are finished by now."""
        for kind in (EXPERT, COMPOSED, OUTPUTS):
            sweep(self.root / kind)
        for folder in (self.root / PARTIAL).glob("*-*"):
            sweep(folder)
            kind, _, key = folder.name.partition("-")
            if is_finished(self.path(kind, key)):
                parts = self.partial(kind, key)
                parts.clear()
                parts.release()
        forget(self.root / LOCKS)

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The JSON data of a finished stage; empty when it was stored without any.

        Of one that only the remote store has, nothing else is brought here.

        Raises:
            KeyError: there is no such finished stage, or no whole one.
        """
        folder = self._load(kind, key)
        if folder is None and self.remote and (data := self.remote.part(kind, key, META)) is not None:
            return dict(json_value(data))
        folder = folder or self.load(kind, key)
        if folder is None:
            raise KeyError(f"{kind}/{key}")
        path = folder / META
        return dict(json_value(file_bytes(path))) if path.exists() else {}
