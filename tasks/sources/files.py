"""Reading one file of rows, with errors that name it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from results.ground.digest import digest, file_sha256
from results.ground.reading import Unreadable, check_plain, json_value, regular
from tasks.sources.base import Row, SourceError


def read_rows(file: Path) -> list[Row]:
    """Rows of a `.jsonl`, `.jsonl.gz` or `.parquet` file.

    Raises:
        SourceError: the file is cut off, is not what its name says, or holds a line that is no JSON object.
    """
    if file.suffix == ".parquet":
        return _parquet(file)
    return list(json_lines(file))


def json_lines(file: Path, wanted: Callable[[str], bool] = bool) -> Iterator[Row]:
    """Objects of a JSON-lines file, plain or gzip-compressed.

    Args:
        file: whose lines are read.
        wanted: says of a line whether it is; by default all are.
    """
    number = 0
    try:
        regular(file)
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip() and wanted(line):
                    row = json_value(line, halves=True)
                    if not isinstance(row, dict):
                        raise SourceError(f"Line {number} of {file} is no JSON object: repair or replace the file.")
                    check_plain(list(row))  # the columns' names; what stands in them is looked at by the task
                    yield row
    except SourceError:
        raise
    except Unreadable as error:
        place = f"Line {number} of {file}" if number else f"The file {file}"
        raise SourceError(f"{place} {error}: repair or replace the file.") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"The file {file} cannot be read ({error}): repair or replace it.") from error


def content(files: Iterable[Path]) -> str | None:
    """A name for the bytes of some files; None where one cannot be read, which whoever reads it will say."""
    try:
        return digest([file_sha256(file) for file in files])
    except (OSError, Unreadable):
        return None


def said(error: Exception) -> str:
    """What is wrong with a file, as the middle of a sentence."""
    return str(error) if isinstance(error, Unreadable) else f"cannot be read ({error})"


def _parquet(file: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(regular(file)).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise SourceError(f"The file {file} is no readable Parquet ({error}): repair or replace it.") from error
    return rows
