"""Hashes that decide what belongs where: every draw follows from names and contents, never from positions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_SEPARATOR = "\x1f"


def content_digest(value: Any, length: int = 12) -> str:
    """The first hexadecimal digits of the SHA-256 of a row's canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal rows, whatever the order of their columns."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def unit_interval(*names: object) -> float:
    """A number in [0, 1) that follows from `names` alone."""
    return _integer(names) / 2.0**64


def seed_from(*names: object) -> int:
    """A 64-bit seed that follows from `names` alone."""
    return _integer(names)


def normalised(value: Any) -> str:
    """Lower-cased text with collapsed spaces, over all strings of a nested value: equal inputs have equal keys."""
    return " ".join(" ".join(_texts(value)).lower().split())


def _integer(names: Sequence[object]) -> int:
    text = _SEPARATOR.join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for key in sorted(value) for text in _texts(value[key])]
    if isinstance(value, Sequence):
        return [text for item in value for text in _texts(item)]
    return [] if value is None else [str(value)]
