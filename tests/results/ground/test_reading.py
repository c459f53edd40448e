"""Readers: what comes from outside is a value or an `Unreadable`, at once, whatever stands in it."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from results.ground.deadline import within
from results.ground.reading import (
    Unreadable,
    check_plain,
    file_bytes,
    file_text,
    finite,
    json_value,
    only_regular,
    regular,
    text_of,
    yaml_value,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
YAML_LIKE = st.lists(
    st.sampled_from(
        ["a: ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "!x ", "\n", "  ", "'", '"', "1", ".inf", ", "]
    )
).map("".join)
FEW = settings(max_examples=60, deadline=None)


@FEW
@given(PLAIN)
def test_json_and_yaml_give_back_what_was_written(value: Any) -> None:
    assert json_value(json.dumps(value)) == value
    assert yaml_value(yaml.safe_dump(value)) == value


@FEW
@given(st.one_of(st.text(max_size=60), YAML_LIKE, st.text('[]{}",:0123456789\\udU', max_size=60)))
def test_any_text_is_a_plain_value_or_unreadable(text: str) -> None:
    for read in (json_value, yaml_value):
        with suppress(Unreadable):
            value = read(text)
            check_plain(value)
            json.dumps(value)


@FEW
@given(st.binary(max_size=40))
def test_any_bytes_are_a_text_or_unreadable(data: bytes) -> None:
    with suppress(Unreadable):
        text_of(data).encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "the key 'a' twice (line 2)"),
        ("a: {b: 1, b: 2}", "the key 'b' twice"),
        ("x: &x {a: 1}\ny: {<<: *x, b: 1, b: 2}", "the key 'b' twice"),
        ("a: &a [*a]", "*a inside what it names"),
        ("a: 2020-01-01", "no text, number, list or mapping"),
        ("1: a", "a key that is no text (1)"),
        ("a: !!python/name:os.system", "not valid YAML at line 1"),
        ("[" * 200, "nested too deeply"),
        ("9" * 5000, "a number of 5000 digits"),
        ('"\\ud800"', "not valid YAML"),
    ],
)
def test_yaml_says_what_is_wrong_with_it(text: str, says: str) -> None:
    with pytest.raises(Unreadable) as caught:
        yaml_value(text)
    assert says in str(caught.value)


def test_what_a_merge_brings_may_be_replaced() -> None:
    assert yaml_value("x: &x {a: 1}\ny: {<<: *x, a: 2}")["y"] == {"a": 2}


def test_aliases_are_read_unless_they_multiply() -> None:
    assert yaml_value("a: &a [1]\nb: [*a, *a]") == {"a": [1], "b": [[1], [1]]}
    laughs = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    started = time.process_time()
    with pytest.raises(Unreadable, match="multiplies itself"):
        yaml_value(laughs)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "a number of 5000 digits"),
        ('"\\uD800"', "half a character"),
        ('{"a":', "not valid JSON"),
        (b'"\xff"', "not in UTF-8"),
    ],
)
def test_json_says_what_is_wrong_with_it(text: str | bytes, says: str) -> None:
    with pytest.raises(Unreadable) as caught:
        json_value(text)
    assert says in str(caught.value)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        for read in (regular, file_bytes, file_text):
            with pytest.raises(Unreadable, match="a pipe or a device"):
                read(tmp_path / name)
    with pytest.raises(Unreadable, match="is a folder"):
        file_bytes(tmp_path)
    with pytest.raises(Unreadable, match="holds pipe"):
        only_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        regular(tmp_path / "nothing")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(Unreadable, match="larger than 1 MiB"):
        file_text(tmp_path / "large", 2**20)


def test_a_number_is_finite_and_no_switch() -> None:
    assert [finite(value) for value in (1, 1.5, True, "1", float("nan"), float("inf"), 10**400)] == [True, True] + [
        False
    ] * 5


def test_what_never_ends_is_stopped() -> None:
    def forever() -> None:
        while True:
            pass

    with pytest.raises(ValueError, match="late"), within(0.05, lambda: ValueError("late")):
        forever()


def test_what_ends_in_time_is_left_alone() -> None:
    for _ in range(20):
        with within(5.0, lambda: ValueError("late")):
            pass
    with pytest.raises(KeyError), within(5.0, lambda: ValueError("late")):
        raise KeyError
