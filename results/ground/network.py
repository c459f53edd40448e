"""Objects below one URL of fsspec: every operation has a deadline, is tried a few times, and fails in a sentence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from results.ground.damage import PlaceError
from results.ground.errors import HarnessError

T = TypeVar("T")

TRIES = 5
PAUSE = 0.5
"""Seconds before the second try; each further pause is twice as long."""
DEADLINE = 60.0
"""Seconds for one try of an operation on a small object."""
SLOWEST = 1e6
"""Bytes a second that a transfer may be slowed down to before it counts as failed."""
RIVALS = 8
"""Writers that contend for one name when conditional writes are tried."""
_BLOCK = 2**23
_FINAL = (PermissionError, NotImplementedError, ImportError)


class NetworkError(PlaceError):
    """A store on a network cannot be used.

    Attributes:
        said: what is the matter.
        mend: what to do about it.
    """

    def __init__(self, said: str, mend: str) -> None:
        super().__init__(f"{said}: {mend}.")
        self.said = said
        self.mend = mend


class Network:
    """What lies below a URL such as `s3://bucket/prefix`. Nothing is contacted before the first operation.

    Credentials and endpoint are those of the environment (for S3 the usual `AWS_*`), and no sentence repeats them.

    Args:
        url: of fsspec; `HARNESS_STAGES` of a sentence.
        tries: of every operation.
        pause: seconds before the second one.
        deadline: seconds for each, more for large files.
        filesystem: instead of the one that fsspec finds for the URL.

    Raises (on construction):
        HarnessError: the URL has no bucket, or holds what should stand in the environment.
    """

    def __init__(
        self,
        url: str,
        *,
        tries: int = TRIES,
        pause: float = PAUSE,
        deadline: float = DEADLINE,
        filesystem: Any = None,
    ) -> None:
        scheme, _, rest = url.partition("://")
        if any(mark in rest for mark in "@?#"):
            raise HarnessError(
                f"The {scheme}:// URL of HARNESS_STAGES holds a user or settings: give the bucket and a prefix alone, "
                "and credentials and endpoint in the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL)."
            )
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest.strip("/"):
            raise HarnessError(f"{url!r:.200} is no URL of a store: write one like s3://bucket/prefix.")
        self.url = url.rstrip("/")
        self.tries, self.pause, self.deadline = tries, pause, deadline
        self._given = filesystem

    @cached_property
    def _filesystem(self) -> Any:
        if self._given is not None:
            return self._given
        import fsspec

        scheme = self.url.partition("://")[0]
        # Tries are counted here and nowhere else, and what others write is to be seen at once.
        settings: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if scheme in ("s3", "s3a"):
            waits = {"connect_timeout": self.deadline / 4, "read_timeout": self.deadline}
            settings["config_kwargs"] = waits | {"retries": {"max_attempts": 0}}
        try:
            filesystem = fsspec.filesystem(scheme, **settings)
        except ImportError as error:
            mended = "pip install '.[s3]' in the harness's checkout" if scheme in ("s3", "s3a") else said(error)
            raise NetworkError(f"A store at {scheme}:// needs a package that is not installed", mended) from error
        except ValueError as error:
            raise NetworkError(f"fsspec knows no {scheme}://", "write a URL like s3://bucket/prefix") from error
        if hasattr(filesystem, "retries"):
            filesystem.retries = 1
        return filesystem

    def hasty(self) -> Network:
        """The same store for what may as well fail: two tries of some seconds."""
        return Network(self.url, tries=2, pause=self.pause, deadline=self.deadline / 6, filesystem=self._filesystem)

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        try:
            return self._tried(f"read ({name})", lambda: bytes(self._filesystem.cat_file(self._path(name))))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write an object, whatever had its name, and read it back."""

        def once() -> None:
            self._filesystem.pipe_file(self._path(name), data)
            if self._filesystem.cat_file(self._path(name)) != data:
                raise OSError("what is read is not what was written")

        self._found(f"written ({name})", once)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of that name. `data` must be like no other's: what is there afterwards
        tells whether it was this write, also when its answer was lost."""

        def once() -> bool:
            try:
                self._filesystem.pipe_file(self._path(name), data, mode="create")
            except Exception as error:  # that there is one has several names
                with contextlib.suppress(FileNotFoundError):
                    return bool(self._filesystem.cat_file(self._path(name)) == data)
                raise error
            return bool(self._filesystem.cat_file(self._path(name)) == data)

        return self._found(f"written ({name})", once)

    def upload(self, path: Path, name: str, sha256: str) -> None:
        """Write a file as an object, and read it back."""
        size = path.stat().st_size

        def once() -> None:
            self._filesystem.put_file(str(path), self._path(name))
            if self._sha256(name) != sha256:
                raise OSError("what is read is not what was written")

        self._found(f"written ({name})", once, size)

    def download(self, name: str, path: Path, size: int | None) -> None:
        """Write an object to a file, whatever it holds.

        Raises:
            FileNotFoundError: there is no such object.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._tried(f"read ({name})", lambda: self._filesystem.get_file(self._path(name), str(path)), size or 0)

    def sha256(self, name: str, size: int | None) -> str | None:
        """Of an object, read as a stream; None where there is none."""
        try:
            return self._tried(f"read ({name})", lambda: self._sha256(name), size or 0)
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Last parts of the names directly below a folder, sorted; of a folder that is not there, none."""
        try:
            found = self._tried(f"listed ({folder})", lambda: self._filesystem.ls(self._path(folder), detail=False))
        except FileNotFoundError:
            return []
        return sorted({str(one).rstrip("/").rpartition("/")[2] for one in found} - {folder.rpartition("/")[2], ""})

    def modified(self, name: str) -> float | None:
        """When an object was written, in seconds since the epoch by the store's clock; None where there is none."""
        try:
            return float(self._tried(f"read ({name})", lambda: self._filesystem.modified(self._path(name))).timestamp())
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is no mistake."""
        with contextlib.suppress(FileNotFoundError):
            self._tried(f"written (removing {name})", lambda: self._filesystem.rm_file(self._path(name)))

    def clear(self, folder: str) -> None:
        """Remove all objects below a folder; one that is gone already is no mistake."""
        with contextlib.suppress(FileNotFoundError):
            self._tried(f"written (removing {folder})", lambda: self._filesystem.rm(self._path(folder), recursive=True))

    def require_conditional(self) -> None:
        """See that of writers that contend for a name just one gets it: claims stand on that.

        Raises:
            NetworkError: the store writes over what is there, or writes to it fail.
        """
        from fsspec import AbstractFileSystem

        writes = type(self._filesystem).pipe_file is not AbstractFileSystem.pipe_file
        refused = NetworkError(
            f"The store {self.url} cannot write an object only where there is none (`If-None-Match: *`), so that "
            "processes could not divide the work",
            "take a server that can (AWS S3, MinIO), or a file system that all machines see "
            "(HARNESS_STAGES=/shared/stages)",
        )
        if not (writes or hasattr(self._filesystem, "_pipe_file")):
            raise refused  # fsspec's own looks and then writes
        folder = f"probes/{uuid.uuid4().hex}"
        try:
            name = f"{folder}/one"
            if not self.create(name, b"first") or self.create(name, b"second") or self.read(name) != b"first":
                raise refused
            with ThreadPoolExecutor(RIVALS) as pool:
                won = list(pool.map(lambda one: self._first(f"{folder}/many", b"%d" % one), range(RIVALS)))
            if sum(won) > 1:
                raise refused
        finally:
            self.clear(folder)

    def _first(self, name: str, data: bytes) -> bool:
        """Whether one conditional write is said to have been the first; the answers of some may be lost."""
        try:
            within(self.deadline, lambda: self._filesystem.pipe_file(self._path(name), data, mode="create"))
        except Exception:
            return False
        return True

    def _path(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _sha256(self, name: str) -> str:
        found = hashlib.sha256()
        with self._filesystem.open(self._path(name), "rb") as handle:
            while block := handle.read(_BLOCK):
                found.update(block)
        return found.hexdigest()

    def _found(self, what: str, operation: Callable[[], T], size: int = 0) -> T:
        """`_tried` of a write: an object that is not there right after it was lost, or has no bucket to be in."""

        def once() -> T:
            try:
                return operation()
            except FileNotFoundError as error:
                raise OSError(f"it is not there after it was written: {error}") from error

        return self._tried(what, once, size)

    def _tried(self, what: str, operation: Callable[[], T], size: int = 0) -> T:
        """What an operation gives, tried up to `tries` times.

        Raises:
            FileNotFoundError: there is no such object.
            NetworkError: no try succeeded.
        """
        seconds = self.deadline + 2 * size / SLOWEST
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return within(seconds, operation)
            except (FileNotFoundError, HarnessError):
                raise
            except Exception as error:
                last = error
                if isinstance(error, _FINAL) or type(error).__name__ in _WITHOUT or _NO_BUCKET in str(error):
                    break
        what = f"The stage store {self.url} cannot be {what}, at try {attempt + 1} of {self.tries} ({said(last)})"
        raise NetworkError(what, mend(last, self.url)) from last


_WITHOUT = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
"""botocore's names for credentials that are not there."""
_NO_BUCKET = "bucket does not exist"


def mend(error: BaseException, url: str) -> str:
    """What to do about an error of a store."""
    scheme, _, bucket = url.partition("://")
    if type(error).__name__ in _WITHOUT:
        return "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=..."
    if isinstance(error, PermissionError):
        return "see to its credentials (AWS_ACCESS_KEY_ID and the like) and to what they may do"
    if _NO_BUCKET in str(error):
        return f"make the bucket (aws s3 mb {scheme}://{bucket.partition('/')[0]}), or correct HARNESS_STAGES"
    return "see to network and server (AWS_ENDPOINT_URL) and give the command again, which keeps what is done"


def said(error: BaseException) -> str:
    """An error in words, without what the environment keeps to itself: keys, tokens and endpoints are replaced by the
    names of their variables."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    secrets = {value: name for name, value in os.environ.items() if name.startswith("AWS_") and len(value) > 3}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"${secrets[value]}")
    return text if len(text) <= 300 else f"{text[:300]}…"


def within(seconds: float, operation: Callable[[], T]) -> T:
    """What an operation gives, in a thread that is left behind once it has taken so long.

    Raises:
        TimeoutError: it has.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(operation())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="harness-store", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    return done[0]
