"""Threads that wait for each other leave the cores to others, unless the user wants them to spin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOWN = "import os, sys; import harness; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("given", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_it_is_asked_for_before_torch_is_loaded(given: dict[str, str], policy: str) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    run = [sys.executable, "-c", SHOWN]
    done = subprocess.run(run, env=clean | given, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [policy, "False"]
