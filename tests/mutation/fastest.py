"""Plugin of pytest for mutants: the fastest tests come first, and slow imports are done before a process forks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pandas
import pytest
import scipy.stats
import torch
import transformers

IMPORTED = (numpy, pandas, scipy.stats, torch, transformers)
STATISTICS = Path("mutmut-stats.json")  # in mutmut's folder, where it runs the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A mutant ends with the first test that fails."""
    if STATISTICS.exists():
        seconds = json.loads(STATISTICS.read_text())["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
