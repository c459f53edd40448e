"""Atomic writing: a file or folder is either there as a whole or not there at all, and says what it holds."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from results.ground import owners
from results.ground.damage import PlaceError, StoreError, damage, said_of
from results.ground.digest import file_sha256
from results.ground.locks import locked
from results.ground.reading import Unreadable, file_bytes, file_text, json_value

__all__ = [
    "MARKER",
    "PlaceError",
    "StoreError",
    "adopt",
    "atomic_folder",
    "changed_files",
    "faults",
    "is_finished",
    "make_folder",
    "marker_of",
    "read_json",
    "schema_of",
    "set_aside",
    "stamp",
    "sweep",
    "write_bytes",
    "write_json",
]

MARKER = "DONE"
MARKER_VERSION = 2
"""Of the marker and of what lies beside it. Version 1, without a number and without sizes, is read too."""
DAMAGED = "damaged"
STAGING = ".staging-"
"""Begins the name of whatever is not finished."""
_DAY = 86_400.0

M = TypeVar("M", bound=pydantic.BaseModel)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless it is there.

    Raises:
        PlaceError: a file has that name or a parent's, or the place cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        with contextlib.suppress(OSError):  # of an impossible name not even this can be asked
            taken = next((place for place in (path, *path.parents) if place.exists() and not place.is_dir()), None)
            if taken is None and (sentence := damage(error, path)) is not None:
                raise sentence from error
            reason = reason if taken is None else f"{taken} is a file"
        raise PlaceError(f"The folder {path} cannot be made ({reason}): choose another --output.") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically: readers see the old content or the new, never a part of it, even after a power cut.

    Raises:
        PlaceError: the disk is full, or the place cannot be written to.
    """
    with said_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        temporary = _staging(path)
        try:
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: pydantic.BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write a model or JSON data atomically, indented.

    Raises:
        ValueError: a float is infinite or NaN, which JSON cannot say.
        PlaceError: the disk is full, or the place cannot be written to.
    """
    data = value.model_dump(mode="json") if isinstance(value, pydantic.BaseModel) else value
    write_bytes(path, (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path, model: type[M]) -> M:
    """Read what `write_json` wrote.

    Raises:
        StoreError: the file is missing, cut off, or not of this schema.
    """
    try:
        with said_of(path):
            return model.model_validate_json(file_bytes(path))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run the command that makes it again.") from None
    except Unreadable as error:
        raise StoreError(f"{path} {error}; remove its folder and run again.") from None
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StoreError(
            f"{path} is not a valid {model.__name__} ({place}: {first['msg']}); remove its folder and run again."
        ) from None


class _Versioned(pydantic.BaseModel):
    """Reads no more of a long file than it must: half the time of a report over thousands of cells went here."""

    schema_version: Any = None


def schema_of(data: bytes) -> int | None:
    """The `schema_version` of JSON data, told before anything else of it is believed: what a newer version wrote may
    hold what this one does not know. None where it has none that could be one."""
    try:
        version = _Versioned.model_validate_json(data).schema_version
    except ValueError:
        return None
    return version if isinstance(version, int) else None


def _marker(folder: Path) -> dict[str, Any] | None:
    """The completion marker of a folder (`marker_of`); None where it is missing or cut off."""
    try:
        data = file_bytes(folder / MARKER)
    except (OSError, ValueError):
        return None
    return marker_of(data, folder)


def marker_of(data: bytes, place: Path | str) -> dict[str, Any] | None:
    """A completion marker as `sha256` and `bytes` by file name; None where it is cut off.

    Raises:
        StoreError: a newer version of the harness wrote it.
    """
    try:
        marker = json_value(data)
        version, sums = marker.get("version", 1), marker["sha256"]
        sizes = marker.get("bytes", {})
        whole = isinstance(sums, dict) and isinstance(sizes, dict) and isinstance(version, int) and version >= 1
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not whole or not all(isinstance(one, str) and "\0" not in name for name, one in sums.items()):
        return None
    if version > MARKER_VERSION:
        raise StoreError(
            f"{place} has version {version}, newer than {MARKER_VERSION}: update the harness, or choose another "
            "place (HARNESS_STAGES, HARNESS_CACHE or --output)."
        )
    return {"sha256": sums, "bytes": sizes}


def is_finished(folder: Path) -> bool:
    """Whether the completion marker is there as a whole and every file it lists has the size that was written.

    Cheap: what the files hold is not looked at; see `changed_files`.

    Raises:
        StoreError: a newer version of the harness wrote it.
    """
    marker = _marker(folder)
    return marker is not None and all(_size(folder / name, marker["bytes"].get(name)) for name in marker["sha256"])


def _size(path: Path, expected: int | None) -> bool:
    try:
        return path.is_file() and expected in (None, path.stat().st_size)
    except OSError:
        return False


def changed_files(folder: Path) -> list[str]:
    """Names of files whose content is not what the folder's marker recorded; the marker's own if that is damaged."""
    marker = _marker(folder)
    if marker is None:
        return [MARKER]
    return [name for name, sha256 in marker["sha256"].items() if not _is(folder / name, sha256)]


def faults(folder: Path) -> list[str]:
    """What is wrong with a finished folder, a clause for each of its files: gone, of another size, or changed.

    Raises:
        StoreError: a newer version of the harness wrote it.
    """
    marker = _marker(folder)
    if marker is None:
        return [f"its {MARKER} is cut off"]
    return [fault for name in marker["sha256"] if (fault := _fault(folder / name, name, marker))]


def _fault(path: Path, name: str, marker: dict[str, Any]) -> str | None:
    if not path.is_file():
        return f"{name} is gone"
    expected = marker["bytes"].get(name)
    if not _size(path, expected):
        return f"{name} has {path.stat().st_size:,} bytes and {expected:,} were written"
    return None if _is(path, marker["sha256"][name]) else f"{name} is not the file that was written"


def _is(path: Path, sha256: str) -> bool:
    try:
        return file_sha256(path) == sha256
    except (OSError, Unreadable):
        return False


def stamp(folder: Path) -> list[list[Any]] | None:
    """Name, size, inode and times of change of a finished folder's files; None where something is missing.

    Whoever changes a file's content through the file system changes its `st_ctime`, which no program can set: two
    folders of one stamp hold the same bytes, but for decay of the medium underneath.
    """
    marker = _marker(folder)
    if marker is None:
        return None
    try:
        found = [(name, (folder / name).stat()) for name in (*marker["sha256"], MARKER)]
    except OSError:
        return None
    return [[name, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in found]


@contextmanager
def atomic_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Fill a folder under a temporary sibling name; when the block ends, marker written last, it takes its own.

    An exception in the block removes it. When another process has finished the same folder meanwhile, that one
    stays and this one is dropped, unless `replace`: then the caller holds a lock on what is replaced. Leftovers of dead
    processes are cleaned up first. Files are readable by whom the umask lets.

    Raises:
        PlaceError: the disk is full, or the place cannot be written to.
        StoreError: somebody took the folder away, or several processes replace it.
    """
    with said_of(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
        staging = _staging(target)
        staging.mkdir()
        try:
            yield staging
            if not staging.is_dir():  # the marker's writer would make it again, empty, and call it whole
                raise StoreError(f"{staging} was removed while it was written; run again.")
            _mark(staging)
            _settle(staging, target, replace)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _mark(folder: Path) -> None:
    """Open the files to those that the umask lets, bring them to the disk, and write the marker."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MARKER)
    mask = os.umask(0)
    os.umask(mask)
    for path in files:
        path.chmod(0o666 & ~mask)  # some libraries write through temporary files, which are their owner's alone
        _sync(path)
    for inner in folder.rglob("*"):
        if inner.is_dir():
            _sync(inner)
    names = {path: str(path.relative_to(folder)) for path in files}
    marker = {
        "version": MARKER_VERSION,
        "sha256": {name: file_sha256(path) for path, name in names.items()},
        "bytes": {name: path.stat().st_size for path, name in names.items()},
    }
    write_json(folder / MARKER, marker)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _settle(staging: Path, target: Path, replace: bool) -> None:
    """Give `staging` its final name; renaming onto a folder that has files fails, so a lost race shows."""
    if not target.exists() and _renamed(staging, target):
        return
    # Under the lock nobody else takes a folder away: what is finished here stays where it is.
    with contextlib.nullcontext() if replace else _turn(target):
        if not replace and is_finished(target):
            return
        if target.exists():
            doomed = _staging(target)
            os.rename(target, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        if not _renamed(staging, target) and (replace or not is_finished(target)):
            raise StoreError(f"{target} is being replaced by several processes; stop all but one and run again.")


def _renamed(staging: Path, target: Path) -> bool:
    try:
        os.rename(staging, target)
    except OSError:
        if not target.exists():
            raise
        return False
    _sync(target.parent)
    return True


def adopt(folder: Path) -> bool:
    """Take over a folder whose marker is of the first form, a word or a digest without sums: what it holds now is what
    it is checked against from now on. False for any other folder.

    Raises:
        PlaceError: it cannot be written to.
    """
    try:
        text = file_text(folder / MARKER).strip()
    except (OSError, ValueError):
        return False
    if not re.fullmatch("converted|[0-9a-f]{64}", text):
        return False
    _mark(folder)
    return True


def set_aside(folder: Path, place: Path) -> Path | None:
    """Move a damaged finished folder below `place`, and say so on standard error; None when it is whole after all.

    Raises:
        PlaceError: the place cannot be written to.
    """
    with said_of(folder), _turn(folder):
        if not folder.exists():
            return None
        changed = changed_files(folder)
        if not changed:
            return None
        place.mkdir(parents=True, exist_ok=True)
        kept = place / f"{folder.parent.name}-{folder.name}-{uuid.uuid4().hex[:8]}"
        os.rename(folder, kept)
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    sys.stderr.write(f"harness: {folder} is damaged ({changed[0]}{more}), set aside as {kept} and made again.\n")
    return kept


def _turn(target: Path) -> contextlib.AbstractContextManager[None]:
    return locked(target.parent.parent / "locks" / f"{target.parent.name}-{target.name}.turn")


def _staging(target: Path) -> Path:
    """A name beside a file or folder for what is to take its name; it says who writes it."""
    return target.with_name(f"{STAGING}{target.name}.{owners.myself().text()}.{uuid.uuid4().hex[:8]}")


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what processes that have ended left half-written in a folder; of those that cannot be asked, what is a
    day old.

    Args:
        folder: where files and folders take their final names; it may be missing.
        name: of the file or folder whose leftovers alone are meant.
    """
    for path in folder.glob(f"{STAGING}*"):
        target, *parts = path.name.removeprefix(STAGING).rsplit(".", 5)
        if name not in (None, target):
            continue
        owner = owners.parse(".".join(parts[:4]))
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > _DAY
            if (owner.gone() or (old and owner.boot != owners.boot())) if owner is not None else old:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
