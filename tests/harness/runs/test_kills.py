"""A run that is ended at any point, or whose disk is full from any point on, goes on as if nothing had happened.

A few points for each way here; `python -m tests.harness.runs.kills --changes 100 --times 100 --signals 20 --full 20
--steps 40` tries many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.runs.kills import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork of a process that holds torch")


def test_nothing_is_lost_and_nothing_is_left(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "tests.harness.runs.kills"]
    asked = {"--changes": 3, "--times": 1, "--signals": 1, "--full": 2, "--steps": 4}
    done = subprocess.run(
        [*line, *(str(word) for pair in asked.items() for word in pair)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    made = json.loads(done.stdout)
    assert made["faults"] == []
    assert [made["trials"][kind] for kind in ("change", "time", "signal", "full", "step")] == list(asked.values())
    assert made["trials"]["change, ended with -9"] == asked["--changes"]
    assert made["trials"]["step, ended with -9"] == asked["--steps"]
    assert made["trials"]["went on inside a stage"] > 0
