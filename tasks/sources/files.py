"""Reading one file of rows, with errors that name it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from tasks.sources.base import Row, SourceError


def read_rows(file: Path) -> list[Row]:
    """Rows of a `.jsonl`, `.jsonl.gz` or `.parquet` file.

    Raises:
        SourceError: the file is cut off, is not what its name says, or holds a line that is no JSON object.
    """
    if file.suffix == ".parquet":
        return _parquet(file)
    return list(json_lines(file))


def json_lines(file: Path) -> Iterator[Row]:
    """Objects of a JSON-lines file, plain or gzip-compressed."""
    number = 0
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise SourceError(f"Line {number} of {file} is no JSON object: repair or replace the file.")
                    yield row
    except SourceError:
        raise
    except json.JSONDecodeError as error:
        raise SourceError(f"Line {number} of {file} is no JSON ({error.msg}): repair or replace the file.") from error
    except RecursionError as error:
        raise SourceError(f"Line {number} of {file} is nested too deeply: repair or replace the file.") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"The file {file} cannot be read ({error}): repair or replace it.") from error


def _parquet(file: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(file).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise SourceError(f"The file {file} is no readable Parquet ({error}): repair or replace it.") from error
    return rows
