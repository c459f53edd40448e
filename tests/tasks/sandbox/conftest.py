"""Each test that takes `level` runs at every level that is installed."""

from __future__ import annotations

import pytest

from tasks.sandbox.level import Level
from tasks.sandbox.levels import NAMES, named


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.system) for name in NAMES])
def level(request: pytest.FixtureRequest) -> Level:
    found = named(request.param)
    if (reason := found.missing()) is not None:
        pytest.skip(reason)
    return found
