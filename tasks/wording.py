"""What makes two texts the same wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def normalised(value: Any) -> str:
    """Lower-cased text with collapsed spaces, over all strings of a nested value: equal inputs have equal keys."""
    return " ".join(" ".join(_texts(value)).lower().split())


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for key in sorted(value) for text in _texts(value[key])]
    if isinstance(value, Sequence):
        return [text for item in value for text in _texts(item)]
    return [] if value is None else [str(value)]
