"""Offline means what it means to `huggingface_hub`, to every part alike."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = "from results.ground.offline import offline; print(offline())"


@pytest.mark.parametrize(("value", "expected"), [("1", "True"), ("true", "True"), ("0", "False"), ("false", "False")])
def test_the_variable_is_read_as_the_hub_library_reads_it(value: str, expected: str) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": value}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_no_other_code_reads_it() -> None:
    from pathlib import Path

    root = Path(__file__).resolve().parents[3]
    readers = [
        str(file.relative_to(root))
        for package in ("harness", "methods", "tasks", "results", "reports")
        for file in (root / package).rglob("*.py")
        if 'environ.get("HF_HUB_OFFLINE"' in file.read_text()
    ]
    assert not readers
