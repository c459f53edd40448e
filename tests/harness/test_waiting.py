"""Threads that wait for each other soon leave the cores to others, unless the user wants them to wait otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SHOWN = f"import os, sys; import harness; print([os.environ.get(one) for one in {NAMES}], 'torch' in sys.modules)"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["PASSIVE", "3000"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"GOMP_SPINCOUNT": "50"}, [None, "50"]),
    ],
)
def test_it_is_asked_for_before_torch_is_loaded(given: dict[str, str], found: list[str | None]) -> None:
    clean = {key: value for key, value in os.environ.items() if key not in NAMES}
    run = [sys.executable, "-c", SHOWN]
    done = subprocess.run(run, env=clean | given, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"{found} False"
