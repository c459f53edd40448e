"""Atomic writing: a file or folder is either there as a whole or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from results.ground.digest import file_sha256
from results.ground.errors import HarnessError

MARKER = "DONE"
_STAGING = ".staging-"

M = TypeVar("M", bound=pydantic.BaseModel)


class StoreError(HarnessError, ValueError):
    """Something stored cannot be used. The message is one sentence that names the mend."""


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless it is there.

    Raises:
        StoreError: a file has that name or a parent's, or the place cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        taken = next((place for place in (path, *path.parents) if place.exists() and not place.is_dir()), None)
        reason = f"{taken} is a file" if taken is not None else error.strerror
        raise StoreError(f"The folder {path} cannot be made ({reason}): choose another --output.") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically: readers see the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_owner()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: pydantic.BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write a model or JSON data atomically, indented.

    Raises:
        ValueError: a float is infinite or NaN, which JSON cannot say.
    """
    data = value.model_dump(mode="json") if isinstance(value, pydantic.BaseModel) else value
    write_bytes(path, (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path, model: type[M]) -> M:
    """Read what `write_json` wrote.

    Raises:
        StoreError: the file is missing, cut off, or not of this schema.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run the command that makes it again.") from None
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StoreError(
            f"{path} is not a valid {model.__name__} ({place}: {first['msg']}); remove its folder and run again."
        ) from None


def is_finished(folder: Path) -> bool:
    """Whether the completion marker is there as a whole and every file it lists still exists."""
    try:
        marker = json.loads((folder / MARKER).read_text())
        return all((folder / name).is_file() for name in marker["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def changed_files(folder: Path) -> list[str]:
    """Names of the files of a finished folder whose content is not what the marker recorded."""
    marker = json.loads((folder / MARKER).read_text())
    return [name for name, sha256 in marker["sha256"].items() if file_sha256(folder / name) != sha256]


@contextmanager
def atomic_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Fill a folder under a temporary sibling name; when the block ends, marker written last, it takes its own.

    An exception in the block removes it. When another process has finished the same folder meanwhile, that one
    stays and this one is dropped, unless `replace`. Leftovers of dead processes are cleaned up first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    staging = target.with_name(f"{_STAGING}{target.name}.{_owner()}")
    staging.mkdir()
    try:
        yield staging
        _mark(staging)
        _settle(staging, target, replace)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _mark(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / MARKER, {"sha256": {str(path.relative_to(folder)): file_sha256(path) for path in files}})


def _settle(staging: Path, target: Path, replace: bool) -> None:
    """Give `staging` its final name; renaming onto a folder that has files fails, so a lost race shows."""
    for _ in range(10):
        if target.exists() and (replace or not is_finished(target)):
            doomed = target.with_name(f"{_STAGING}{target.name}.{_owner()}")
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, doomed)
                shutil.rmtree(doomed, ignore_errors=True)
        try:
            os.rename(staging, target)
            return
        except OSError:
            if not replace and is_finished(target):
                return
            if not target.exists():
                raise
    raise StoreError(f"{target} is being replaced by several processes; stop all but one and run again.")


def _owner() -> str:
    return f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


def _remove_leftovers(target: Path) -> None:
    host = socket.gethostname()
    for path in target.parent.glob(f"{_STAGING}{target.name}.{host}.*"):
        pid = path.name.rsplit(".", 2)[1]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
