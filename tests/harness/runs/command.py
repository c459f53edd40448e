"""The command line in this process, and what a run holds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.cli import main
from results.store import RunFolder

TINY = ["--preset", "smoke", "--set", "experts.names=[sst2,mrpc,arc]", "--limit", "4"]


def call(*arguments: str) -> int:
    """Exit code of a command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def planned(folder: Path) -> list[tuple[str, str]]:
    """Methods and tasks of a run's plan."""
    return [(cell.method, cell.task) for cell in RunFolder.open(folder).info.cells]
