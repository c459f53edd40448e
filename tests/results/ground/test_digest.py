"""Digests and seeds keep their values: they name stored stages and draw random numbers."""

from __future__ import annotations

import datetime
from pathlib import Path

import pydantic
import pytest

from methods import seeding
from results.ground.digest import (
    canonical,
    canonical_row,
    digest,
    file_sha256,
    row_digest,
    seed_from,
    text_sha256,
    unit_interval,
    wide_seed,
)


def test_digests_have_the_values_they_always_had() -> None:
    assert digest({"b": [1, 2.5, None, True], "a": {"z": "ä", "y": (1, 2)}}) == "49610e058e60443b"
    assert digest([], 8) == "4f53cda1"
    assert digest("x", 64) == "ba2df4903a2c14e86dc3bcca58911b44ac1d2514b7227bf6eb08cfb978f55a1b"


def test_digests_of_rows_have_the_values_they_always_had() -> None:
    assert row_digest({"b": 1, "a": "ä"}) == "507aab815f2b"
    assert row_digest({"d": datetime.date(2020, 1, 2), "n": float("nan")}, 16) == "ce67ba1c146f870d"


def test_seeds_have_the_values_they_always_had() -> None:
    assert [seed_from("mixer", "router", 0), seed_from("expert", "math", "order", 3)] == [707336606, 363959867]
    assert wide_seed("gsm8k", "42", 0) == 9283392765658902503
    assert unit_interval("arc-c", "q1") == 0.19967979850022233
    assert [seeding.seed_from("router", 0, "layer.1"), seeding.seed_from("x")] == [
        9017879269225024503,
        1637211439935739938,
    ]


def test_a_seed_has_as_many_bits_as_asked_for() -> None:
    assert wide_seed("x", bits=63) == wide_seed("x") >> 1
    assert wide_seed("x", bits=8) < 256


def test_a_files_digest_is_that_of_its_text(tmp_path) -> None:
    (tmp_path / "file").write_text("ä")
    assert file_sha256(tmp_path / "file") == text_sha256("ä")


def test_what_has_no_canonical_form_is_refused_but_in_a_row() -> None:
    day = datetime.date(2020, 1, 2)
    with pytest.raises(TypeError, match="no canonical form for date"):
        canonical([day])
    assert canonical_row([day]) == '["2020-01-02"]'


def test_what_json_cannot_say_has_no_name() -> None:
    for value in (float("nan"), float("inf"), {"a": [float("-inf")]}):
        with pytest.raises(ValueError, match="JSON"):
            canonical(value)


def test_models_are_named_by_what_they_say_in_json() -> None:
    class Dated(pydantic.BaseModel):
        day: datetime.date
        place: Path

    assert canonical(Dated(day=datetime.date(2026, 1, 2), place=Path("/a"))) == '{"day":"2026-01-02","place":"/a"}'
