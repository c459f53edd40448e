"""Names of method variants: `mixer[loss.entropy.sign=-1,route.train_k=2]`.

A variant is its method's name and the configuration values that deviate, as dotted keys. The same text stands on the
command line, in records and in table rows, so `parse` and `display` are inverse to each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from results.ground.errors import HarnessError
from results.ground.names import commas, shown
from results.ground.reading import DEEPEST, LONGEST_NUMBER, Unreadable, check_plain, yaml_value


class VariantError(HarnessError, ValueError):
    """A variant that cannot be read, or a key or value that its method does not take."""


_VARIANT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)(?:\[(?P<settings>.*)\])?", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Split a variant into the method's name and its overrides by dotted key.

    Values are YAML scalars or flow lists; `1e-3` is a number here, which YAML 1.1 would read as text.

    Raises:
        VariantError: not of the form `NAME` or `NAME[key=value,...]`.
    """
    match = _VARIANT.fullmatch(text.strip())
    if match is None:
        raise VariantError(f"Cannot read the method '{text}': write NAME or NAME[key=value,key=value].")
    overrides: dict[str, Any] = {}
    settings = match["settings"]
    for part in commas(settings) if settings else []:
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key:
            raise VariantError(f"Cannot read '{part.strip()}' in '{text}': write key=value.")
        if key in overrides:
            raise VariantError(f"The key '{key}' stands twice in '{text}': leave one out.")
        overrides[key] = parse_value(value)
    return match["name"], overrides


def display(name: str, overrides: Mapping[str, Any]) -> str:
    """Canonical text of a variant, keys sorted; `overrides` may be dotted or nested."""
    flat = flatten(overrides)
    if not flat:
        return name
    return f"{name}[{','.join(f'{key}={_value_text(flat[key])}' for key in sorted(flat))}]"


def parse_value(text: str, depth: int = 0) -> Any:
    """One value as YAML reads it, plus numbers such as `1e-3`.

    Raises:
        VariantError: not YAML, or no value that a setting can have.
    """
    text = text.strip()
    if depth > DEEPEST:
        raise VariantError(f"The value {shown(text)} is nested too deeply: write it flat.")
    if len(text) > LONGEST_NUMBER and _NUMBER.fullmatch(text):
        raise VariantError(f"{text[:20]}… is a number of {len(text)} digits: give a smaller one.")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        # JSON first: it takes control characters that YAML refuses or folds.
        with suppress(json.JSONDecodeError):
            return _plain(json.loads(text, strict=False))
    if text.startswith("[") and text.endswith("]"):
        return [parse_value(part, depth + 1) for part in commas(text[1:-1])]
    try:
        return yaml_value(text)
    except Unreadable as error:
        raise VariantError(f"Cannot read the value {shown(text)}, which {error}: quote it as YAML text.") from error


def _plain(value: Any) -> Any:
    try:
        check_plain(value)
    except Unreadable as error:
        raise VariantError(f"The value {shown(value)} {error}: correct it.") from error
    return value


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of nested mappings; keys that are dotted already stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[leaf] = value
    return nested


def _value_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_value_text(item) for item in value)}]"
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z0-9_./-]+", text) is not None and _reads_as_itself(text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _reads_as_itself(text: str) -> bool:
    try:
        return bool(parse_value(text) == text)
    except VariantError:  # three dots end a YAML document
        return False
