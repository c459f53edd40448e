"""Finished stages on a remote store (S3 and whatever else fsspec reaches), behind the local one that is worked in."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from results.claims import PATIENCE, Claims
from results.ground import owners
from results.ground.digest import file_sha256
from results.ground.files import DAMAGED, MARKER, atomic_folder, marker_of
from results.ground.network import Network
from results.ground.reading import file_bytes, json_value

YOUNG = 2.0
"""Seconds for which a list of the store is believed, or ten times as long as it took."""


class Marker(NamedTuple):
    """What says that a stage is whole: its files' SHA-256 and sizes by name, and the folder that holds them."""

    data: bytes
    sha256: dict[str, str]
    bytes: dict[str, int]
    folder: str


class _DamagedError(Exception):
    """A stage on the remote is not what was written; its text says which file. `fetch` alone sees it."""


class Remote:
    """Finished stages as `DONE/<kind>/<key>`, and their files in `<kind>/<key>/<a name of its own>/`.

    Files come first and are read back; the marker, written last and only where there is none, names their folder. So a
    stage is there as a whole or not at all, and of several that compute it the first to finish is kept. Markers stand
    apart from files so that one list says what is finished.
    """

    def __init__(self, network: Network, patience: float = PATIENCE) -> None:
        self.network = network
        self.claims = Claims(network, patience)
        self._ready = False
        self._known: set[str] = set()
        self._claimed: set[str] = set()
        self._lists: dict[str, tuple[float, set[str]]] = {}

    def require(self) -> None:
        """See, once, that the store can be written to and read from, says when it was, and that claims hold.

        Raises:
            PlaceError: it cannot, or they do not.
        """
        if not self._ready:
            self.network.require_conditional()
            self.claims.now()
            self._ready = True

    @contextmanager
    def claimed(self, kind: str, key: str) -> Iterator[bool]:
        """Try to be the one that computes a stage; what is stored is looked at anew by whoever is."""
        self.require()
        name = f"{kind}/{key}"
        with self.claims.claimed(f"{kind}-{key}") as held:
            if held:
                self._claimed.add(name)
            try:
                yield held
            finally:
                self._claimed.discard(name)

    def claims_it(self, kind: str, key: str) -> bool:
        """Whether it is this process that computes a stage."""
        return f"{kind}/{key}" in self._claimed

    def holder(self, kind: str, key: str) -> owners.Owner | None:
        """Who computes a stage; None where nobody does."""
        return self.claims.holder(f"{kind}-{key}")

    def has(self, kind: str, key: str) -> bool:
        """Whether a stage is finished there. That it is not may be some seconds old, unless it is claimed."""
        name = f"{kind}/{key}"
        if name in self._known:
            return True
        if name in self._claimed:
            return self.network.read(_marker_of(name)) is not None
        return key in self._listed(kind)

    def fetch(self, kind: str, key: str, folder: Path) -> bool:
        """Bring a finished stage to `folder`, every byte checked. False when there is none, or it was damaged.

        A damaged one is set aside, which one line on standard error says, so that it is computed again.

        Raises:
            StoreError: a newer version of the harness wrote it.
            PlaceError: the store or the folder cannot be used.
        """
        name = f"{kind}/{key}"
        if not self.has(kind, key):
            return False
        marker = self._marker(name)
        if marker is None:
            self._known.discard(name)
            return False
        try:
            with atomic_folder(folder) as staging:
                for file in marker.sha256:
                    self._bring(name, marker, file, staging)
        except _DamagedError as error:
            self._set_aside(name, marker.data, str(error))
            return False
        self._known.add(name)
        return True

    def part(self, kind: str, key: str, file: str) -> bytes | None:
        """One small file of a finished stage, checked; None where it is not to be had, whatever the reason.

        Raises:
            StoreError: a newer version of the harness wrote it.
            PlaceError: the store cannot be used.
        """
        name = f"{kind}/{key}"
        if not self.has(kind, key) or (marker := self._marker(name)) is None or file not in marker.sha256:
            return None
        data = self.network.read(f"{name}/{marker.folder}/{file}")
        whole = data is not None and hashlib.sha256(data).hexdigest() == marker.sha256[file]
        return data if whole else None

    def push(self, kind: str, key: str, folder: Path) -> None:
        """Bring a finished stage from `folder` to the store, unless it has one.

        Raises:
            PlaceError: the store cannot be used.
        """
        name = f"{kind}/{key}"
        if self.has(kind, key):
            self._known.add(name)
            return
        self.require()
        own = json_value(file_bytes(folder / MARKER))
        at = f"{owners.myself().text()}.{uuid.uuid4().hex}"
        sums = {file: file_sha256(folder / file) for file in own["sha256"]}
        for file, sha256 in sums.items():
            self.network.upload(folder / file, f"{name}/{at}/{file}", sha256)
        first = self.network.create(_marker_of(name), json.dumps(own | {"sha256": sums, "at": at}).encode())
        # Whoever is not first takes its own away; what else is there was left by a process that was cut off.
        for other in [one for one in self.network.names(name) if one != at] if first else [at]:
            self.network.clear(f"{name}/{other}")
        self._known.add(name)

    def faults(self, kind: str, key: str) -> list[str] | None:
        """What is wrong with a stage, every byte of it read, and nothing changed; None where there is none."""
        name = f"{kind}/{key}"
        if not self.has(kind, key) or (marker := self._marker(name)) is None:
            return None
        found = {file: self._read(name, marker, file) for file in marker.sha256}
        return [
            f"{file} is {'gone' if sha256 is None else 'not the file that was written'}"
            for file, sha256 in found.items()
            if sha256 != marker.sha256[file]
        ]

    def _bring(self, name: str, marker: Marker, file: str, staging: Path) -> None:
        """Bring one file, once more where it differs: what was read may be what is wrong.

        Raises:
            _DamagedError: it is not there, or not what was written.
        """
        path = staging / file
        for _ in range(2):
            try:
                self.network.download(f"{name}/{marker.folder}/{file}", path, marker.bytes.get(file))
            except FileNotFoundError:
                continue
            if file_sha256(path) == marker.sha256[file]:
                return
        raise _DamagedError(f"{file} is not the file that was written")

    def _read(self, name: str, marker: Marker, file: str) -> str | None:
        return self.network.sha256(f"{name}/{marker.folder}/{file}", marker.bytes.get(file))

    def _marker(self, name: str) -> Marker | None:
        """The marker of a stage; None where there is none, or it was damaged, and then is set aside."""
        data = b""
        for _ in range(2):
            if (read := self.network.read(_marker_of(name))) is None:
                return None
            data = read
            if (marker := _parsed(data, f"{self.network.url}/{name}")) is not None:
                return marker
        self._set_aside(name, data, MARKER)
        return None

    def _set_aside(self, name: str, data: bytes, fault: str) -> None:
        kept = f"{DAMAGED}/{name.replace('/', '-')}-{uuid.uuid4().hex[:8]}"
        self._known.discard(name)
        self._lists.clear()
        self.network.write(kept, data)
        self.network.delete(_marker_of(name))
        sys.stderr.write(
            f"harness: {self.network.url}/{name} is damaged ({fault}), its {MARKER} set aside as {kept}, and it is "
            "made again.\n"
        )

    def _listed(self, kind: str) -> set[str]:
        """Keys of a kind that are finished, as of some seconds ago."""
        until, keys = self._lists.get(kind, (0.0, set()))
        now = time.monotonic()
        if now > until:
            keys = set(self.network.names(f"{MARKER}/{kind}"))
            after = time.monotonic()
            self._lists[kind] = after + max(YOUNG, 10 * (after - now)), keys
        return keys


def _marker_of(name: str) -> str:
    return f"{MARKER}/{name}"


def _parsed(data: bytes, place: str) -> Marker | None:
    """A marker that makes sense, and whose files stay within their folder; None for any other.

    Raises:
        StoreError: a newer version of the harness wrote it.
    """
    known = marker_of(data, place)
    if known is None:
        return None
    folder: Any = json_value(data).get("at")
    if not isinstance(folder, str) or not all(_inner(name) for name in (folder, *known["sha256"])) or "/" in folder:
        return None
    return Marker(data, known["sha256"], known["bytes"], folder)


def _inner(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
