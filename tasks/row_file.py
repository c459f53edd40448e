"""Rows of one file of questions, read and checked: `{question, choices, answer}` or `{question, answer}`.

CSV (`choices` is a JSON list in its cell, as in `"[""red"", ""blue""]"`), JSON (a list of objects), JSON lines and
Parquet. Every row has choices or none has. `answer` is the text of a choice, its position from 0 as a whole number, or
its letter from A; without choices it is a text or number. An `id` is optional. Other fields are read over, except those
that look like one of these misspelled.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from results.ground.reading import Unreadable, check_plain, file_text, finite, json_value, regular
from tasks.sources.base import Row, SourceError
from tasks.sources.files import read_rows, said

SUFFIXES = (".csv", ".json", ".jsonl", ".jsonl.gz", ".parquet")
FIELDS = ("question", "choices", "answer", "id")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def suffix_of(path: Path) -> str | None:
    """The ending that says how a file of rows is read; None for other files."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def read_row_file(path: Path) -> tuple[list[Row], tuple[str, ...]]:
    """Rows as `{question, answer}` or `{question, choices, answer}` (`answer` then a position), and `id` where given.

    Returns:
        The rows, and the names of fields that are not used.

    Raises:
        SourceError: no such file, no rows in it, or a wrong row: number, field and value are named.
    """
    if not path.is_file():
        raise SourceError(f"There is no file of rows {path}: give the path of a CSV, JSON, JSONL or Parquet file.")
    raw = list(_raw(path))
    _check_texts(path, raw)
    if not raw:
        raise SourceError(f"The file {path} holds no rows: write at least one question.")
    fields = list(dict.fromkeys(field for row in raw for field in row))
    for field in fields:
        close = difflib.get_close_matches(field.strip().lower(), FIELDS[:3], n=1, cutoff=0.75)
        if field not in FIELDS and close and not any(close[0] in row for row in raw):
            raise SourceError(f"The rows of {path} have the field '{field}': name it '{close[0]}'.")
    has_choices = "choices" in raw[0]
    rows = [_Row(path, number, row).checked(has_choices, "id" in raw[0]) for number, row in enumerate(raw, start=1)]
    return rows, tuple(field for field in fields if field not in FIELDS)


def _check_texts(path: Path, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows, start=1):
        try:
            check_plain({str(field): value for field, value in row.items() if field in FIELDS})
        except Unreadable as error:
            raise SourceError(f"Row {number} of {path} {error}: mend it there.") from None


def _raw(path: Path) -> Iterator[Row]:
    suffix = suffix_of(path)
    if suffix == ".csv":
        yield from _csv(path)
    elif suffix == ".json":
        yield from _json(path)
    elif suffix is not None:
        yield from read_rows(path)
    else:
        raise SourceError(f"The file {path} is none of {', '.join(SUFFIXES)}: name it by what it holds.")


def _json(path: Path) -> list[Row]:
    try:
        rows = json_value(file_text(path))
    except (OSError, Unreadable) as error:
        raise SourceError(f"The file {path} {said(error)}: mend it there.") from error
    if not isinstance(rows, list):
        raise SourceError(f"The file {path} must hold a list of rows: put them between [ and ].")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SourceError(f"Row {number} of {path} is {_shown(row)}: write an object with question and answer.")
    return rows


def _csv(path: Path) -> Iterator[Row]:
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            names = reader.fieldnames or ()
            if len(set(names)) < len(names) or not all(name.strip() for name in names):
                raise SourceError(f"The columns of {path} are not one name each: write {', '.join(FIELDS)} once.")
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    raise SourceError(f"Row {number} of {path} has not one cell for each column: quote its commas.")
                # An empty cell is a missing value only where one may be missing.
                yield {
                    name: _cell_choices(path, number, cell) if name == "choices" else cell for name, cell in row.items()
                }
    except Unreadable as error:
        raise SourceError(f"The file {path} {error}: mend it there.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"The file {path} is no valid CSV in UTF-8 ({error}): mend it there.") from error


def _cell_choices(path: Path, number: int, cell: str) -> Any:
    try:
        return json_value(cell)
    except Unreadable:
        raise SourceError(
            f"Row {number} of {path}, field choices: {_shown(cell)} is no JSON list: write the cell as "
            '"[""first"", ""second""]".'
        ) from None


class _Row:
    """One row under test."""

    def __init__(self, path: Path, number: int, row: Row) -> None:
        self.path, self.number, self.row = path, number, row

    def checked(self, has_choices: bool, has_id: bool) -> Row:
        if ("choices" in self.row) != has_choices:
            raise self.wrong("choices", self.row.get("choices"), "give choices to all rows or to none")
        if ("id" in self.row) != has_id:
            raise self.wrong("id", self.row.get("id"), "give an id to all rows or to none")
        made: Row = {"id": self.text("id")} if has_id else {}
        made["question"] = self.text("question")
        if not has_choices:
            return made | {"answer": self.text("answer")}
        choices = self.choices()
        return made | {"choices": choices, "answer": self.position(choices)}

    def wrong(self, field: str, value: Any, mend: str) -> SourceError:
        return SourceError(f"Row {self.number} of {self.path}, field {field}: got {_shown(value)}; {mend}.")

    def text(self, field: str) -> str:
        value = self.row.get(field)
        if field not in self.row:
            raise SourceError(f"Row {self.number} of {self.path} lacks the field {field}: add it.")
        if not _is_plain(value):
            raise self.wrong(field, value, "write a text that is not empty")
        return str(value) if field == "question" else str(value).strip()

    def choices(self) -> list[str]:
        value = self.row["choices"]
        plain = isinstance(value, list) and all(_is_plain(c) for c in value)
        if not plain or len(value) < 2:
            raise self.wrong("choices", value, "write a list of at least two texts")
        texts = [str(choice) for choice in value]
        if len(set(texts)) < len(texts):
            raise self.wrong("choices", value, "two of them are the same: leave one out")
        return texts

    def position(self, choices: Sequence[str]) -> int:
        """Position of the right choice.

        An answer that is one of the choices as written is that choice, so that numbers among numbers mean themselves.
        """
        value, given = self.row.get("answer"), self.row["choices"]
        if "answer" not in self.row:
            raise SourceError(f"Row {self.number} of {self.path} lacks the field answer: add it.")
        same = [i for i, choice in enumerate(given) if type(choice) is type(value) and choice == value]
        if same:
            return same[0]
        if isinstance(value, str):
            if value.strip() in choices:
                return choices.index(value.strip())
            if len(value.strip()) == 1 and value.strip() in LETTERS[: len(choices)]:
                return LETTERS.index(value.strip())
            if suffix_of(self.path) == ".csv" and value.strip() in map(str, range(len(choices))):
                return int(value)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
            if str(value) in choices and choices.index(str(value)) != value:
                raise self.wrong("answer", value, "it is a position and the text of another choice: quote the text")
            return value
        raise self.wrong("answer", value, f"write one of the {len(choices)} choices, a position from 0, or a letter")


def _is_plain(value: Any) -> bool:
    """Whether a value is a text that is not empty, or a number that can be written as one."""
    return bool(value.strip()) if isinstance(value, str) else finite(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
