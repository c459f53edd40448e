"""What a row must hold to be bound, and the one sentence when it does not.

Every column of a card has a kind (`values` in the front matter), checked for every row of every split that is read
before anything is computed; what columns mean together is a task's own `fault`. A row is never repaired or left out
silently: a label that is hidden (-1), out of range or of another type would train and score as some option.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.sources.base import SourceError

Kind = str | tuple[str | int, ...]
Fault = tuple[str, Any, str]
"""Field, its value, and what it should be, in words."""


class BadRow(SourceError):
    """A row that cannot be used. Its one sentence names set, split, row number, field and value.

    One task's bad row is that task's alone: whoever binds several tasks goes on with the others.

    Attributes:
        task: name of the task.
        dataset: set and configuration, `glue/sst2`.
        split: official name.
        number: position in the split, from 1.
        field: the column, or a path into it (`choices.text`).
        value: what it holds.
    """

    def __init__(self, task: str, dataset: str, split: str, number: int, where: str, fault: Fault) -> None:
        field, value, wanted = fault
        self.task, self.dataset, self.split, self.number = task, dataset, split, number
        self.field, self.value = field, value
        place = f"Row {number} of {task}'s split {split} ({dataset}) in {where}"
        if value is MISSING:
            super().__init__(f"{place} lacks the column '{field}': give {wanted}.")
        else:
            super().__init__(f"{place} has {field} {shown(value)}: give {wanted}.")


MISSING: Any = object()


def shown(value: Any) -> str:
    """A value for a sentence: JSON in one line, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def column_fault(row: Mapping[str, Any], columns: Sequence[str], values: Mapping[str, Kind]) -> Fault | None:
    """The first column that is missing or not of its kind, or None."""
    for column in columns:
        if column not in row:
            return column, MISSING, f"rows with the columns {', '.join(columns)}"
        wanted = _wrong(row[column], values[column]) if column in values else None
        if wanted is not None:
            return column, row[column], wanted
    extra = {name: value for name, value in row.items() if name not in columns}
    if extra and not _is_encodable(extra):
        name = next(name for name, value in extra.items() if not _is_encodable({name: value}))
        return name, row[name], "text without halves of surrogate pairs"
    return None


def options_fault(field: str, options: Any, *, least: int = 2, most: int = 9, twins: bool = False) -> Fault | None:
    """What is wrong with a list of options: its type, its length, one that is no text or blank, two that are equal.

    Args:
        field: where it stands.
        options: the value.
        least: options at least.
        most: options at most, which is what letters can name.
        twins: accept equal options, for sets that are scored by letter and were published so.
    """
    if not isinstance(options, list | tuple):
        return field, options, "a list of texts"
    if not least <= len(options) <= most:
        return field, options, f"{least} to {most} options" if least != most else f"{least} options"
    for option in options:
        if _wrong(option, "text") is not None:
            return field, option, "options that are texts and not empty"
    for place, option in enumerate(options):
        if not twins and option.strip() in [other.strip() for other in options[:place]]:
            return field, option, "options that differ"
    return None


def _wrong(value: Any, kind: Kind) -> str | None:
    """What a value should be in words, None where it is that."""
    if isinstance(kind, tuple):
        # Python holds True == 1 == 1.0 for equal, a label is not.
        fits = any(type(value) is type(one) and value == one for one in kind)
        return None if fits else _either(kind)
    check, wanted = KINDS[kind]
    return None if check(value) else wanted


def _either(values: Sequence[str | int]) -> str:
    spelled = [json.dumps(value) for value in values]
    if all(isinstance(value, int) for value in values) and len(values) > 2:
        return f"a whole number from {min(spelled)} to {max(spelled)}"
    return f"{', '.join(spelled[:-1])} or {spelled[-1]}"


def _is_string(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or _is_encodable(value))


def _is_text(value: Any) -> bool:
    return _is_string(value) and not value.isspace() and value != ""


def _is_encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except (UnicodeEncodeError, RecursionError, ValueError, TypeError):
        return False
    return True


def _is_id(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or _is_text(value)


KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "text": (_is_text, "a text that is not empty"),
    "string": (_is_string, "a text"),
    "id": (_is_id, "a whole number or a text that is not empty"),
    "flag": (lambda value: isinstance(value, bool), "true or false"),
    "texts": (
        lambda value: isinstance(value, list) and bool(value) and all(map(_is_text, value)),
        "a list of texts that are not empty",
    ),
    "strings": (lambda value: isinstance(value, list) and all(map(_is_string, value)), "a list of texts"),
    "mapping": (lambda value: isinstance(value, dict) and _is_encodable(value), "an object"),
    "worked": (
        lambda value: (
            _is_text(value) and re.search(r"####\s*[-−]?[$€£]?\s?(?:\d[\d, ]*(?:\.\d+)?|\.\d+)\s*\Z", value) is not None
        ),
        "a worked answer that ends in '#### ' and a number",
    ),
}
"""Kinds of values: what passes, and what to give in words."""
