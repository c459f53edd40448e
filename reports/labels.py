"""Names of rows for readers, where a method's name on the command line would say something else than its row is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from reports.plots.figure import Series
from reports.tables import Note
from results.schema import Record

T = TypeVar("T")


def labels(records: Sequence[Record]) -> dict[str, str]:
    """What readers call the methods of some records, by name, for those that have another name for them."""
    return {record.spec.method_name: record.label for record in records if record.label}


def labelled(made: T, records: Sequence[Record]) -> T:
    """A table or figure (or a text in one) with those names in every place that a reader sees.

    Keys of rows stay: files, commands and `--rename` go on using the names.
    """
    names = labels(records)
    found: T = _told(made, names, _pattern(names)) if names else made
    return found


def relabelled(records: Sequence[Record]) -> list[Record]:
    """Records whose methods are called so; for pages, which show records themselves."""
    names = labels(records)
    pattern = _pattern(names)
    return [
        record.model_copy(
            update={"spec": record.spec.model_copy(update={"method": _text(record.spec.method, names, pattern)})}
        )
        for record in records
    ]


def _pattern(names: Mapping[str, str]) -> re.Pattern[str]:
    """Any of the names as a word of its own, which the label does not make of it already; `gmoe-graph` is no `gmoe`."""
    each = [rf"{re.escape(name)}(?!{re.escape(label.removeprefix(name))})" for name, label in names.items()]
    return re.compile(rf"(?<![\w.=/-])(?:{'|'.join(each)})(?![\w-])") if each else re.compile(r"(?!)")


def _text(text: str, names: Mapping[str, str], pattern: re.Pattern[str]) -> str:
    return pattern.sub(lambda match: names[match[0]], text)


def _told(value: Any, names: Mapping[str, str], pattern: re.Pattern[str]) -> Any:
    if isinstance(value, Note):
        return Note(_text(value, names, pattern), short=_text(value.short, names, pattern))
    if isinstance(value, str):
        return _text(value, names, pattern)
    if isinstance(value, tuple | list):
        return type(value)(_told(one, names, pattern) for one in value)
    if isinstance(value, dict):
        return {key: _told(one, names, pattern) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        # A series is called by its name; that of a whole table or figure is a file's.
        kept = {"key", "runs"} if isinstance(value, Series) else {"key", "runs", "name"}
        changed = {f.name: _told(getattr(value, f.name), names, pattern) for f in fields(value) if f.name not in kept}
        return replace(value, **changed)
    return value
