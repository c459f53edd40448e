"""The command line in this process or in one of its own, and what a run holds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from harness.cli import main
from results.store import RunFolder

ROOT = Path(__file__).resolve().parents[3]
TINY = ["--preset", "smoke", "--set", "experts.names=[sst2,mrpc,arc]", "--limit", "4"]


def call(*arguments: str) -> int:
    """Exit code of a command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def printed(*arguments: str, stages: Path | None = None) -> CompletedProcess[str]:
    """What a command line in this process ends with and says; its own process would import torch anew."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        if stages is not None:
            patch.setenv("HARNESS_STAGES", str(stages))
        code = call(*arguments)
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def in_own_process(*arguments: str, stages: Path) -> tuple[list[str], dict[str, str]]:
    """Line and environment of a command in a process of its own, where starting and ending are what is tested."""
    environment = os.environ | {"HARNESS_STAGES": str(stages), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return [sys.executable, "-m", "harness", *arguments], environment


def together(*lines: Sequence[str], folder: Path, stages: Path) -> tuple[list[int], str]:
    """Exit codes of some command lines at once, each in a process of its own, and what they all said: files in `folder`
    hold it."""
    _, environment = in_own_process(stages=stages)
    environment |= {"PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "tests.harness.runs.together", str(folder), json.dumps(lines)]
    done = subprocess.run(start, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    said = "".join((folder / f"{number}.txt").read_text() for number in range(len(lines)))
    return json.loads(done.stdout.splitlines()[-1]), said


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def planned(folder: Path) -> list[tuple[str, str]]:
    """Methods and tasks of a run's plan."""
    return [(cell.method, cell.task) for cell in RunFolder.open(folder).info.cells]
