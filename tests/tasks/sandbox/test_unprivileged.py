"""Level `landlock` is refused for root. Where the tests run as root, its tests run once more as somebody else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.sandbox.landlock import LandlockLevel
from tasks.sandbox.versions import missing

ROOT = Path(__file__).parents[3]
AS_A_USER = ("bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--dev-bind", "/", "/", "--")
"""A user without capabilities to whom this process's files belong, so that root's need not be opened to all."""


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="level landlock is tested by the other files")
def test_landlock_holds_for_a_user_without_power() -> None:
    if (reason := missing("bwrap")) is not None:
        pytest.skip(reason)
    files = ["tests/tasks/sandbox", "tests/tasks/test_code_tasks.py"]
    arguments = ["-q", "-rs", "-k", "landlock", "-p", "no:cacheprovider", *files]
    ran = subprocess.run(
        [*AS_A_USER, sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if "Linux 6.2" in ran.stdout:
        pytest.skip("this kernel has no Landlock of ABI 3")
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) >= 170, ran.stdout[-1000:]
    assert "landlock is refused" not in ran.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_landlock_is_refused_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "refused for root" in (LandlockLevel().missing() or "")
