"""While a run computes, collections of garbage leave alone what was there before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from harness.executors import settled


@pytest.fixture
def thawed() -> Iterator[None]:
    """A process in which nothing is frozen; afterwards this one's modules are again."""
    gc.unfreeze()
    yield
    gc.freeze()


def test_what_is_there_is_frozen_for_as_long_as_a_run_computes(thawed: None) -> None:
    old = [[]]
    with settled():
        young = [[]]
        looked_at = {id(one) for one in gc.get_objects()}
        assert id(young) in looked_at
        assert id(old) not in looked_at
    assert gc.get_freeze_count() == 0
    assert id(old) in {id(one) for one in gc.get_objects()}


def test_a_failure_leaves_nothing_frozen(thawed: None) -> None:
    with pytest.raises(RuntimeError), settled():
        raise RuntimeError("cut")
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_has_frozen_stays_so(thawed: None) -> None:
    gc.freeze()
    before = gc.get_freeze_count()
    with settled():
        assert gc.get_freeze_count() <= before
    assert gc.get_freeze_count() > 0
