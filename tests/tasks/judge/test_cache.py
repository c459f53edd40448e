"""Replies on disk: for their owner's eyes, and none lost or believed after damage."""

from __future__ import annotations

import logging
import os
import pickle
import sqlite3
import stat
from pathlib import Path

import pytest

from tasks.judge.cache import CacheUnusable, ReplyCache

LONG = {"text": "long " * 50_000}


def rights(folder: Path) -> set[tuple[bool, int]]:
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


def test_folder_and_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with ReplyCache(tmp_path / "deep" / "judge") as cache:
            cache.put("a", {"text": "x"})
            cache.put("b", LONG)
            assert rights(tmp_path / "deep" / "judge") == {(True, 0o700), (False, 0o600)}
    finally:
        os.umask(before)


def test_what_earlier_versions_left_readable_is_closed(tmp_path: Path) -> None:
    from diskcache import Cache, JSONDisk

    with Cache(str(tmp_path / "judge"), disk=JSONDisk, disk_min_file_size=1) as old:
        old.set("a", LONG)
    for path in (tmp_path / "judge").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "judge").chmod(0o755)
    with ReplyCache(tmp_path / "judge") as cache:
        assert cache.get("a") == LONG
    assert rights(tmp_path / "judge") == {(True, 0o700), (False, 0o600)}


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_database_is_set_aside_in_one_sentence(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "judge"
    folder.mkdir()
    (folder / "cache.db").write_bytes(damage)
    with caplog.at_level(logging.WARNING), ReplyCache(folder) as cache:
        assert cache.get("a") is None
        cache.put("a", {"text": "x"})
        assert cache.get("a") == {"text": "x"}
    (sentence,) = [record.getMessage() for record in caplog.records]
    assert "was damaged" in sentence
    assert "judge.damaged-1" in sentence
    assert (tmp_path / "judge.damaged-1" / "cache.db").read_bytes()[: len(damage)] == damage


def test_damage_in_the_middle_is_noticed_where_it_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "judge"
    with ReplyCache(folder) as cache:
        for number in range(50):
            cache.put(f"k{number}", {"text": os.urandom(2000).hex()})
    data = bytearray((folder / "cache.db").read_bytes())
    data[8192:-100] = b"\x5a" * (len(data) - 8292)
    (folder / "cache.db").write_bytes(data)
    for left in folder.glob("cache.db-*"):
        left.unlink()
    with caplog.at_level(logging.WARNING), ReplyCache(folder) as cache:
        found = [cache.get(f"k{number}") for number in range(50)]
        cache.put("new", {"text": "x"})
        assert cache.get("new") == {"text": "x"}
    assert None in found
    assert caplog.records


def test_a_damaged_entry_is_asked_anew_and_the_others_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ReplyCache(tmp_path) as cache:
        cache.put("a", {"text": "x"})
        cache.put("b", {"text": "y"})
    with sqlite3.connect(tmp_path / "cache.db") as base:
        first = min(number for (number,) in base.execute("SELECT rowid FROM Cache"))
        base.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (sqlite3.Binary(b"torn"), first))
    base.close()
    with caplog.at_level(logging.WARNING), ReplyCache(tmp_path) as cache:
        assert cache.get("a") is None
        assert cache.get("b") == {"text": "y"}
    assert "is damaged" in caplog.text


class Bomb:
    exploded = False

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import tests.tasks.judge.test_cache as t; t.Bomb.exploded = True",)


def test_a_database_with_pickled_values_is_set_aside_and_never_executed(tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    with ReplyCache(folder) as cache:
        cache.put("a", {"text": "x"})
    with sqlite3.connect(folder / "cache.db") as base:
        base.execute("UPDATE Cache SET mode = 4, value = ?", (sqlite3.Binary(pickle.dumps(Bomb())),))
    base.close()
    with ReplyCache(folder) as cache:
        assert cache.get("a") is None
    assert not Bomb.exploded
    assert (tmp_path / "judge.damaged-1").is_dir()


def test_a_file_in_the_place_of_the_folder_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "judge").write_text("a file")
    with ReplyCache(tmp_path / "judge") as cache:
        cache.put("a", {"text": "x"})
    assert (tmp_path / "judge.damaged-1").read_text() == "a file"


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable, match=r"cannot be used .*name another cache folder"):
        ReplyCache(tmp_path / "file" / "judge")
