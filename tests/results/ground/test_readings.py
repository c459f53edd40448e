"""The whole of what is said about files and texts that cannot be read, and the limits at which it is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from results.ground.reading import (
    DEEPEST,
    LONGEST_NUMBER,
    MULTIPLIED,
    Unreadable,
    check_plain,
    file_bytes,
    file_text,
    finite,
    json_value,
    only_regular,
    opened,
    regular,
    text_of,
    yaml_value,
)


def said(read: Any, *arguments: Any, **settings: Any) -> str:
    with pytest.raises(Unreadable) as caught:
        read(*arguments, **settings)
    return str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for read in (regular, opened):
        assert said(read, tmp_path / "pipe") == "is a pipe or a device, not a file"
        assert said(read, tmp_path) == "is a folder, not a file"
        assert said(read, Path("a\0b")) == "has a null character in its name"
    assert said(only_regular, tmp_path) == "holds pipe, which is a pipe or a device"
    (tmp_path / "pipe").unlink()
    (tmp_path / "folder").mkdir()
    only_regular(tmp_path)
    assert regular(tmp_path / "file") == tmp_path / "file"
    with opened(tmp_path / "file") as handle:
        assert handle.read() == b"abc"


def test_a_file_may_be_as_large_as_it_may(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2**20)
    assert len(file_bytes(path, 2**20)) == 2**20
    assert said(file_bytes, path, 2**20 - 1) == "is larger than 0 MiB"
    assert said(file_text, path, 1000) == "is larger than 0 MiB"


def test_texts_are_utf_8_with_unix_newlines() -> None:
    assert text_of("é\n".encode()) == "é\n"
    assert text_of(b"\xef\xbb\xbfa") == "a"
    assert text_of(b"a\r\nb\rc\nd") == "a\nb\nc\nd"
    assert said(text_of, b"ab\xff") == "is not in UTF-8 (byte 3)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a" 1}', "is not valid JSON (expecting ':' delimiter at column 6)"),
        ('{\n"a" 1}', "is not valid JSON (expecting ':' delimiter at line 2, column 5)"),
        ('{"b": 1, "a": 1, "a": 2}', "has the key 'a' twice"),
        ('{"' + 100 * "k" + '": 1, "' + 100 * "k" + '": 1}', f"has the key '{56 * 'k'}... twice"),
        ('{"' + 58 * "k" + '": 1, "' + 58 * "k" + '": 1}', f"has the key '{58 * 'k'}' twice"),
        ('{"' + 59 * "k" + '": 1, "' + 59 * "k" + '": 1}', f"has the key '{56 * 'k'}... twice"),
        ("1" * (LONGEST_NUMBER + 1), f"holds a number of {LONGEST_NUMBER + 1} digits"),
        ("0." + "1" * LONGEST_NUMBER, f"holds a number of {LONGEST_NUMBER + 2} digits"),
        ('["\\uDc00"]', "holds half a character (\\udc00)"),
        (b'["\\uDc00"]', "holds half a character (\\udc00)"),
        (b'"\xff"', "is not in UTF-8"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_json_that_is_none(text: str | bytes, says: str) -> None:
    assert said(json_value, text) == says


def test_json_within_its_limits() -> None:
    assert json_value("1" * 300) == int("1" * 300)
    assert json_value(b'{"a": [1.5, true, null, "\\ud83d\\ude00"]}') == {"a": [1.5, True, None, "😀"]}
    assert json_value('"\\ud800"', halves=True) == "\ud800"
    assert json_value("[NaN, Infinity]")[1] == float("inf")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 1\na: 2", "has the key 'a' twice (line 3)"),
        ("a: [\n", "is not valid YAML at line 2, column 1 (did not find expected node content)"),
        ("a: !x 1", "is not valid YAML at line 1, column 4 (could not determine a constructor for the tag '!x')"),
        ("a: 2020-13-01", "is not valid YAML (month must be in 1..12"),
        ("1: a", "has a key that is no text (1): put it in quotes"),
        (
            "a: 2020-01-01",
            "holds datetime.date(2020, 1, 1), which is no text, number, list or mapping: put it in quotes",
        ),
        ("a: " + "1" * (LONGEST_NUMBER + 1), f"holds a number of {LONGEST_NUMBER + 1} digits"),
        ("a: 1." + "1" * LONGEST_NUMBER, f"holds a number of {LONGEST_NUMBER + 2} digits"),
        ("a: &b [*b]", "has an alias *b inside what it names"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "is nested too deeply"),
    ],
)
def test_yaml_that_is_none(text: str, says: str) -> None:
    assert said(yaml_value, text).startswith(says)


def test_yaml_within_its_limits() -> None:
    assert yaml_value("[" * DEEPEST + "]" * DEEPEST) is not None
    assert yaml_value("") is None
    assert yaml_value("a: !x 1\nb: [!y two]", ("!x", "!y")) == {"a": "1", "b": ["two"]}
    assert said(yaml_value, "a: !z 1", ("!x",)).startswith("is not valid YAML at line 1")
    assert yaml_value("a: 1_000\nb: 1.5\nc: yes\nd: ~") == {"a": 1000, "b": 1.5, "c": True, "d": None}


def test_aliases_may_add_so_many_nodes_and_no_more() -> None:
    """Each alias of a list of 99 adds 100 nodes."""
    text = "a: &a [" + "1," * 99 + "]\nb: [" + "*a," * (MULTIPLIED // 100) + "{}]"
    assert len(yaml_value(text.format(""))["b"]) == MULTIPLIED // 100
    assert said(yaml_value, text.format("*a")) == "multiplies itself by its aliases (*a)"
    scalars = "a: &a 1\nb: [" + "*a," * MULTIPLIED + "{}]"
    assert len(yaml_value(scalars.format(""))["b"]) == MULTIPLIED
    assert said(yaml_value, scalars.format("*a")) == "multiplies itself by its aliases (*a)"
    assert yaml_value("a: &a 1\nb: &b {c: *a}\nc: [*b, *b]")["c"] == [{"c": 1}, {"c": 1}]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1: "a"}, "has a key that is no text (1): put it in quotes"),
        ({"a": {"\ud800": 1}}, "holds half a character (\\ud800)"),
        ([1, {"a": b"x"}], "holds b'x', which is no text, number, list or mapping: put it in quotes"),
        (1 << 1024, "holds a number that is too large"),
        ([-(1 << 1024)], "holds a number that is too large"),
        (set(), "holds set(), which is no text, number, list or mapping: put it in quotes"),
    ],
)
def test_values_that_are_not_plain(value: Any, says: str) -> None:
    assert said(check_plain, value) == says


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: (one,), lambda one: {"a": one}])
def test_values_may_be_so_deep(wrap: Any) -> None:
    check_plain(nested(DEEPEST, wrap))
    assert said(check_plain, nested(DEEPEST + 1, wrap)) == "is nested too deeply"


def test_numbers_that_are_finite() -> None:
    assert finite((1 << 1024) - 1)
    assert not finite(1 << 1024)
    assert not finite(-(1 << 1024))
    assert not finite(None)
    check_plain([(1 << 1024) - 1, float("nan"), True, None])
