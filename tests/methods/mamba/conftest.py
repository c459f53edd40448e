"""State-space models, one test for each."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["mamba", "falcon-mamba"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
