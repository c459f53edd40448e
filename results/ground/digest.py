"""Digests and seeds: what is stored or drawn is named by what determines it, never by position or time.

Every function here decides names of stored stages or random numbers: changing a value means raising versions.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pydantic

from results.ground.reading import opened

_SEPARATOR = "\x1f"
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_SCALARS = (str, int, float, bool, type(None))


def canonical(value: Any) -> str:
    """JSON text with sorted keys and no spaces, equal for equal values.

    Args:
        value: JSON data, pydantic models, or nested lists, tuples and dictionaries of them.

    Raises:
        TypeError: for a value with no canonical form (a set, a callable, an array).
    """
    return _ENCODER.encode(_plain(value))


def canonical_row(value: Any) -> str:
    """`canonical` for a row of a data set, whatever the order of its columns: dates and the like count as their text,
    and NaN is allowed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def digest(value: Any, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return _sha256(canonical(value))[:length]


def row_digest(value: Any, length: int = 12) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of `canonical_row(value)`."""
    return _sha256(canonical_row(value))[:length]


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a regular file's bytes, read in blocks.

    Raises:
        OSError, Unreadable: see `results.ground.reading.opened`.
    """
    with opened(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """Hexadecimal SHA-256 of a text's UTF-8."""
    return _sha256(text)


def seed_from(*names: object) -> int:
    """A 31-bit seed from meaningful names, so that adding a method never moves another's random numbers."""
    return int(digest([str(name) for name in names], 16), 16) % (2**31 - 1)


def wide_seed(*names: object, bits: int = 64) -> int:
    """The first `bits` (at most 64) bits of the SHA-256 of the names' texts, as a number."""
    text = _SEPARATOR.join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - bits)


def unit_interval(*names: object) -> float:
    """A number in [0, 1) that follows from `names` alone."""
    return wide_seed(*names) / 2.0**64


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    # A plan's cells hold a million scalars, and asking whether each is a model took half of their time.
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, str | int | float):
        return value
    raise TypeError(f"no canonical form for {type(value).__name__}")
