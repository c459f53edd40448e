"""Items are read when asked for, each cell's once while there is room, and never all of them held."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from types import ModuleType

import pytest

from reports.stored import StoredItems
from results.ground.collecting import paused
from results.schema import Item


@pytest.fixture
def asked() -> list[str]:
    return []


def _stored(factory: ModuleType, asked: list[str], kept: int) -> StoredItems:
    def read(cell: str) -> Sequence[Item]:
        asked.append(cell)
        return factory.make_items([1.0] * 10)  # type: ignore[no-any-return]

    return StoredItems(["a", "b", "c"], read, kept)


def test_nothing_is_read_before_it_is_asked_for(factory: ModuleType, asked: list[str]) -> None:
    items = _stored(factory, asked, 100)
    assert list(items) == ["a", "b", "c"]
    assert len(items) == 3
    assert "b" in items
    assert "d" not in items
    assert items.get("d") is None
    assert not asked


def test_a_cell_is_read_once_while_there_is_room(factory: ModuleType, asked: list[str]) -> None:
    items = _stored(factory, asked, 20)
    assert [len(items[cell]) for cell in ("a", "b", "a", "b")] == [10] * 4
    assert asked == ["a", "b"]


def test_what_was_asked_for_longest_ago_makes_room(factory: ModuleType, asked: list[str]) -> None:
    items = _stored(factory, asked, 20)
    for cell in ("a", "b", "a", "c", "a", "b"):
        assert items[cell]
    assert asked == ["a", "b", "c", "b"]


def test_one_cell_larger_than_the_room_is_held(factory: ModuleType, asked: list[str]) -> None:
    items = _stored(factory, asked, 5)
    assert items["a"] is items["a"]
    assert asked == ["a"]


def test_collecting_goes_on_afterwards_as_it_was_before() -> None:
    with paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
