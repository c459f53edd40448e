"""Content hashes: the name of everything that is stored follows from what determines it and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pydantic


def canonical(value: Any) -> str:
    """JSON text with sorted keys and no spaces, equal for equal values.

    Args:
        value: JSON data, pydantic models, or nested lists, tuples and dictionaries of them.

    Raises:
        TypeError: for a value with no canonical form (a set, a callable, an array).
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def seed_from(*names: object) -> int:
    """A 31-bit seed from meaningful names, so that adding a method never moves another's random numbers."""
    return int(digest([str(name) for name in names], 16), 16) % (2**31 - 1)


def _plain(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"no canonical form for {type(value).__name__}")
