"""Settings are of the kind they are declared with: nothing is taken for something else."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError

from results.ground.settings import Settings


class Inner(Settings):
    switch: bool = False


class Example(Settings):
    switch: bool = False
    count: int = 1
    rate: float | None = 0.5
    name: str = "a"
    word: Literal["a", "b"] = "a"
    seeds: tuple[int, ...] = (0,)
    paths: dict[str, str] = Field(default={})
    anything: dict[str, Any] = Field(default={})
    inner: Inner = Inner()


@pytest.mark.parametrize(
    "values",
    [
        {"switch": "false"},
        {"switch": 1},
        {"count": True},
        {"count": "8"},
        {"count": 4.7},
        {"count": 2**63},
        {"rate": True},
        {"rate": "0.5"},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"name": 3},
        {"name": "a\ud800"},
        {"name": "a\0"},
        {"word": "c"},
        {"seeds": [True]},
        {"seeds": ["0"]},
        {"paths": {"a": 3}},
        {"paths": {"\ud800": "a"}},
        {"anything": {"a": ["\udfff"]}},
        {"inner": {"switch": "no"}},
        {"other": 1},
    ],
    ids=repr,
)
def test_what_is_of_another_kind_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(values)


def test_what_is_of_its_kind_is_taken() -> None:
    made = Example.model_validate(
        {"switch": True, "count": 8, "rate": 1, "seeds": [0, -1], "anything": {"a": [1, None, "b", 0.5, True]}}
    )
    assert (made.switch, made.count, made.rate, made.seeds) == (True, 8, 1.0, (0, -1))
    assert Example.model_validate({"rate": None}).rate is None
