"""Values cross the pipe exactly, and lose their class."""

from __future__ import annotations

import json
import math
from collections import namedtuple
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.sandbox.guest.literals import NotALiteral, decode, dump, encode

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner),
    max_leaves=8,
)
values = st.recursive(
    hashable | st.binary().map(bytearray),
    lambda inner: st.lists(inner) | st.dictionaries(hashable, inner) | st.sets(hashable),
    max_leaves=12,
)


def refuse(thing: object) -> int:
    raise NotALiteral(type(thing).__name__)


def across(value: Any) -> Any:
    return decode(
        json.loads(dump({"value": encode(value, refuse)}))["value"], lambda number, name, identity: (number, name)
    )


def shape(value: Any) -> Any:
    """The value with every class named, so that True is not 1 and -0.0 is not 0.0."""
    if isinstance(value, list | tuple):
        return type(value), tuple(shape(item) for item in value)
    if isinstance(value, set | frozenset):
        return type(value), frozenset(shape(item) for item in value)
    if isinstance(value, dict):
        return type(value), tuple((shape(key), shape(item)) for key, item in value.items())
    return type(value), repr(value)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines differ in speed
@given(values)
def test_round_trip_is_exact(value: Any) -> None:
    assert shape(across(value)) == shape(value)


def test_numbers_that_json_has_not() -> None:
    assert math.isnan(across(math.nan))
    assert across([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert math.copysign(1, across(-0.0)) == -1
    assert across(7**20000) == 7**20000  # more digits than Python reads as decimals
    assert across(0.1 + 0.2).hex() == (0.1 + 0.2).hex()


Point = namedtuple("Point", "x y")


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, 2), (1, 2)),
        (Colour.RED, 1),
        (int, int),
    ],
)
def test_subclasses_arrive_as_builtins(value: Any, plain: Any) -> None:
    assert across(value) == plain
    assert type(across(value)) is type(plain)


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_other_objects_become_references() -> None:
    assert encode(Anything(), lambda thing: 7) == {"t": "ref", "v": 7, "type": "Anything", "identity": False}
    with pytest.raises(NotALiteral, match="Anything"):
        encode([Anything()], refuse)


@pytest.mark.parametrize(
    "line",
    [
        {"t": "verdict", "v": "passed"},
        {"t": "tuple", "v": 3},
        {"t": "tuple"},
        {"v": 1},
        {},
        {"t": "int", "v": "1+1"},
        {"t": "int", "v": 3},
        {"t": "bytes", "v": "zz"},
        {"t": "set", "v": [[1]]},
        {"t": "dict", "v": [[1, 2, 3]]},
        {"t": "complex", "v": ["1", 2]},
        {"t": "type", "v": "object.__subclasses__"},
        {"t": "ref", "v": "x"},
        {"t": "fractions.Fraction", "v": [1, 0]},
        {"t": "decimal.Decimal", "v": ["x"]},
        {"t": "collections.deque", "v": [3]},
        {"t": "os.system", "v": ["true"]},
        {"t": "builtins.eval", "v": ["1"]},
        {"t": "builtins.range", "v": [0, 1, 0]},
        {"t": "constant", "v": "Remote"},
        {"t": ["ref"], "v": 1},
    ],
)
def test_anything_else_is_refused(line: Any) -> None:
    with pytest.raises(NotALiteral):
        decode(line, lambda number, name, identity: number)


@pytest.mark.parametrize(
    "kind", ["builtins.dict_keys", "collections.deque", "collections.UserList", "builtins.memoryview"]
)
def test_a_range_is_never_written_out(kind: str) -> None:
    """Twenty characters would fill the memory."""
    endless = {"t": "builtins.range", "v": [0, 10**12, 1]}
    with pytest.raises(NotALiteral, match="a range where its items belong"):
        decode({"t": kind, "v": [endless]}, lambda *_: None)
