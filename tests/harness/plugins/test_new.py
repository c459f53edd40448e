"""`harness new`: the packages that it writes pass the checks at once when they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands.new import write_skeleton
from results.ground.errors import HarnessError

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def test_skeletons_pass_at_once(tmp_path: Path) -> None:
    folders = [write_skeleton(*new, tmp_path / new[1]) for new in (("method", "my-gate"), ("task", "my-sums"))]
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), *map(str, folders)], check=True, capture_output=True, timeout=300)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "OMP_NUM_THREADS": "1"}
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    test += [str(folder / "tests") for folder in folders]
    done = subprocess.run(test, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 2


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for kind, name, message in (
        ("table", "x", "Unknown kind of skeleton 'table'"),
        ("method", "mixer", "There is a method 'mixer' already"),
        ("task", "9lives", "No package can be named '9lives'"),
        ("method", "class", "No package can be named 'class'"),
    ):
        with pytest.raises(HarnessError, match=message):
            write_skeleton(kind, name, tmp_path / "new")
    with pytest.raises(HarnessError, match="is there already"):
        write_skeleton("method", "fresh", tmp_path)
