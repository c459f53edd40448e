"""Plugin of pytest for mutants: the fastest tests come first, and slow imports are done before a process forks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy
import pandas
import pytest
import scipy.stats
import torch
import transformers

IMPORTED = (numpy, pandas, scipy.stats, torch, transformers)
STATISTICS = Path("mutmut-stats.json")  # in mutmut's folder, where it runs the tests
SECONDS = float(os.environ.get("MUTATION_SECONDS", "10"))
"""A mutant that outlives so many seconds of tests, by what each took alone, has survived."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A mutant ends with the first test that fails."""
    if not STATISTICS.exists():
        return
    seconds = json.loads(STATISTICS.read_text())["duration_by_test"]
    items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
    if "__mutmut_" not in os.environ.get("MUTANT_UNDER_TEST", ""):
        return
    left, kept = SECONDS, 0
    for item in items:
        left -= seconds.get(item.nodeid, 0.0)
        kept += left >= 0
    kept = max(kept, 1)
    config.hook.pytest_deselected(items=items[kept:])
    del items[kept:]
