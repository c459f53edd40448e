"""What the file system does, as sentences that name the place and the mend."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from results.ground.damage import LONGEST, PlaceError, StoreError, damage, full, in_words, said_of
from results.ground.errors import HarnessError

READ_ONLY = OSError(errno.EROFS, "Read-only file system", "/theirs")
FULL = OSError(errno.ENOSPC, "No space left on device", "/theirs/part")


def test_the_file_that_the_error_names_is_said_and_of_a_full_disk_the_place() -> None:
    assert (
        str(damage(READ_ONLY, "/mine")) == "/theirs cannot be used: the file system is read-only: choose another place."
    )
    assert str(damage(READ_ONLY)).startswith("/theirs cannot be used: ")
    assert str(damage(FULL, Path("/mine"))).startswith("/mine cannot be used: the disk is full: free some space")
    assert str(damage(FULL)).startswith("/theirs/part cannot be used: the disk is full")


@pytest.mark.parametrize("unnamed", [OSError(errno.EIO, "x"), OSError(errno.EIO, "x", 7)])
def test_a_place_is_said_where_the_error_names_none(unnamed: OSError) -> None:
    assert str(damage(unnamed, "/mine")) == "/mine cannot be used: the disk cannot be read or written: see to the disk."


def test_without_any_name_it_is_a_file() -> None:
    assert str(damage(OSError(errno.EIO, "x"))).startswith("A file cannot be used: ")


def test_a_long_name_has_its_middle_left_out() -> None:
    said = str(damage(OSError(errno.ENAMETOOLONG, "x", "a" * 150 + "b" * 150)))
    assert said == f"{'a' * 90}…{'b' * 60} cannot be used: the name is too long: choose a shorter one."
    assert str(damage(OSError(errno.ENAMETOOLONG, "x", "a" * 200))).startswith("a" * 200 + " cannot")
    assert str(damage(OSError(errno.ENAMETOOLONG, "x", "a" * 201))).startswith("a" * 90 + "…" + "a" * 60 + " cannot")


def test_what_libraries_say_of_a_full_disk_is_known_whatever_its_case() -> None:
    assert full(RuntimeError("NO SPACE LEFT ON DEVICE"))
    assert full(RuntimeError("Disk quota exceeded (os error 122)"))
    assert full(OSError(errno.ENOSPC, "x"))
    assert full(OSError(errno.EDQUOT, "x"))
    assert not full(READ_ONLY)
    assert not full(RuntimeError("no space for a joke"))
    assert full(OSError("No space left on device"))  # without a number the words count


def test_a_mistake_is_in_its_own_words_and_damage_in_those_for_it() -> None:
    assert in_words(HarnessError("Give a name.")) == "Give a name."
    assert in_words(READ_ONLY) == "/theirs cannot be used: the file system is read-only: choose another place."
    missing = FileNotFoundError(errno.ENOENT, "No such file", "/a")
    with pytest.raises(FileNotFoundError):
        in_words(missing)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("no full stop", "no full stop."),
        ("Is it?", "Is it?"),
        ("It is!", "It is!"),
        ("two  lines\nare one", "two lines are one."),
        ("é — 3 µs", "é — 3 µs."),
        ("a\x1b[31mred\u200b.", "a\\x1b[31mred\\u200b."),
    ],
)
def test_a_sentence_is_one_line_that_can_be_printed(said: str, text: str) -> None:
    assert in_words(HarnessError(said)) == text


def test_a_long_sentence_has_its_middle_left_out() -> None:
    assert in_words(HarnessError("a" * LONGEST)) == "a" * LONGEST + "."
    long = in_words(HarnessError("a" * LONGEST + "b" * LONGEST))
    assert long == "a" * (LONGEST // 2) + "…" + "b" * (LONGEST // 2) + "."


def test_damage_is_raised_as_a_sentence_and_everything_else_as_it_is() -> None:
    with pytest.raises(PlaceError, match=r"^/mine cannot be used: the disk is full") as caught, said_of("/mine"):
        raise FULL
    assert caught.value.__cause__ is FULL
    for other in (StoreError("a sentence"), KeyError("k"), FileNotFoundError(errno.ENOENT, "x")):
        with pytest.raises(type(other)) as caught, said_of("/mine"):
            raise other
        assert caught.value is other
