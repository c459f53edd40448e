"""Files and folders that are there as a whole or not at all: what a marker says, and what is said when it is untrue."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pydantic
import pytest

from results.ground import files
from results.ground.digest import text_sha256
from results.ground.files import (
    DAMAGED,
    MARKER,
    PlaceError,
    StoreError,
    adopt,
    atomic_folder,
    changed_files,
    faults,
    is_finished,
    make_folder,
    marker_of,
    read_json,
    schema_of,
    set_aside,
    stamp,
    write_bytes,
    write_json,
)


class Point(pydantic.BaseModel):
    x: int
    name: str = "é"


class Line(pydantic.BaseModel):
    points: list[Point]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    with atomic_folder(tmp_path / "kind" / "k") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "b").write_text("bb")
        (folder / "a").write_text("a" * 1234)
    return tmp_path / "kind" / "k"


def test_a_marker_lists_what_lies_beside_it(whole: Path) -> None:
    sums = {"a": text_sha256("a" * 1234), "inner/b": text_sha256("bb")}
    assert json.loads((whole / MARKER).read_text()) == {
        "version": 2,
        "sha256": sums,
        "bytes": {"a": 1234, "inner/b": 2},
    }
    assert (is_finished(whole), changed_files(whole), faults(whole)) == (True, [], [])


def test_json_is_written_for_people_and_read_as_its_model(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, Point(x=3))
    assert path.read_text() == '{\n "x": 3,\n "name": "é"\n}\n'
    assert read_json(path, Point) == Point(x=3)
    write_json(path, [1, {"a": None}])
    assert json.loads(path.read_text()) == [1, {"a": None}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"x": "three"}', "is not a valid Point (x: Input should be a valid integer"),
        ("[]", "is not a valid Point (the file: Input should be an object"),
        ("{", "is not a valid Point (the file: Invalid JSON"),
    ],
)
def test_what_is_not_of_its_model_is_a_sentence(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreError) as caught:
        read_json(tmp_path / "a.json", Point)
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'} {says}")
    assert str(caught.value).endswith("); remove its folder and run again.")


def test_what_is_wrong_inside_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"points": [{"x": 1}, {"x": "one"}]}')
    with pytest.raises(StoreError, match=r"is not a valid Line \(points\.1\.x: Input should be a valid integer"):
        read_json(tmp_path / "a.json", Line)


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        read_json(tmp_path / "none.json", Point)
    assert str(caught.value) == f"{tmp_path / 'none.json'} is missing; run the command that makes it again."
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(StoreError) as caught:
        read_json(tmp_path / "pipe.json", Point)
    assert str(caught.value) == (
        f"{tmp_path / 'pipe.json'} is a pipe or a device, not a file; remove its folder and run again."
    )


@pytest.mark.parametrize(
    ("data", "version"),
    [(b'{"schema_version": 7}', 7), (b'{"schema_version": "7"}', None), (b"{}", None), (b"[]", None), (b"{", None)],
)
def test_a_schema_is_told_before_anything_else_is_believed(data: bytes, version: int | None) -> None:
    assert schema_of(data) == version
    assert schema_of(b"[" * 100_000) is None


def test_bytes_take_the_place_of_others_and_leave_nothing_beside_them(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep" / "er" / "a", b"old")
    write_bytes(tmp_path / "deep" / "er" / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "deep" / "er").iterdir()] == [("a", b"new")]


def test_bytes_that_cannot_be_written_leave_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a", b"old")

    def no(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", no)
    with pytest.raises(PlaceError, match=rf"^{tmp_path / 'a'} cannot be used: the file system is read-only"):
        write_bytes(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_folders_are_made_with_their_parents_and_may_be_there(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_made_says_what_is_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(PlaceError) as caught:
            make_folder(path)
        said = f"The folder {path} cannot be made ({tmp_path / 'file'} is a file): choose another --output."
        assert str(caught.value) == said


def test_a_folder_that_cannot_be_made_for_another_reason_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(Path, "mkdir", no)
    with pytest.raises(PlaceError) as caught:
        make_folder(tmp_path / "a")
    assert str(caught.value) == f"The folder {tmp_path / 'a'} cannot be made (No such device): choose another --output."


NONSENSE = (
    *("", "[]", "{}", '{"sha256": []}', '{"sha256": {}, "bytes": []}', '{"sha256": {"a": 1}}'),
    *('{"sha256": {"a\\u0000": ""}}', '{"sha256": {}, "version": 0}', '{"sha256": {}, "version": "2"}'),
    '{"version": 2, "bytes": {}}',
)


@pytest.mark.parametrize("damage", NONSENSE)
def test_a_marker_that_makes_no_sense_is_cut_off(damage: str, whole: Path) -> None:
    assert marker_of(damage.encode(), "a place") is None
    (whole / MARKER).write_text(damage)
    assert not is_finished(whole)
    assert changed_files(whole) == [MARKER]
    assert faults(whole) == ["its DONE is cut off"]
    assert stamp(whole) is None


def test_a_marker_of_each_version_is_read_and_a_newer_one_refused() -> None:
    assert marker_of(b'{"sha256": {"a": "0"}}', "p") == {"sha256": {"a": "0"}, "bytes": {}}
    assert marker_of(b'{"version": 2, "sha256": {}, "bytes": {"a": 3}}', "p") == {"sha256": {}, "bytes": {"a": 3}}
    with pytest.raises(StoreError) as caught:
        marker_of(b'{"version": 3, "sha256": {}}', "a place")
    assert str(caught.value) == (
        "a place has version 3, newer than 2: update the harness, or choose another place "
        "(HARNESS_STAGES, HARNESS_CACHE or --output)."
    )


def test_a_newer_marker_is_said_with_its_folder(whole: Path) -> None:
    (whole / MARKER).write_text('{"version": 3, "sha256": {}}')
    for look in (is_finished, changed_files, faults, stamp):
        with pytest.raises(StoreError, match=rf"^{whole} has version 3, newer than 2"):
            look(whole)


def test_each_file_that_is_wrong_is_named(whole: Path) -> None:
    (whole / "a").write_text("b" * 1234)
    (whole / "inner" / "b").unlink()
    assert is_finished(whole) is False
    assert changed_files(whole) == ["a", "inner/b"]
    assert faults(whole) == ["a is not the file that was written", "inner/b is gone"]
    (whole / "a").write_text("b" * 1500)
    assert faults(whole)[0] == "a has 1,500 bytes and 1,234 were written"


def test_a_size_is_looked_at_only_where_it_is_known(whole: Path) -> None:
    (whole / "a").write_text("b" * 1500)
    assert not is_finished(whole)
    marker = json.loads((whole / MARKER).read_text())
    (whole / MARKER).write_text(json.dumps({"sha256": marker["sha256"]}))
    assert is_finished(whole)
    assert changed_files(whole) == ["a"]
    assert faults(whole) == ["a is not the file that was written"]


def test_a_folder_in_the_place_of_a_file_is_none(whole: Path) -> None:
    (whole / "inner" / "b").unlink()
    (whole / "inner" / "b").mkdir()
    assert not is_finished(whole)
    assert changed_files(whole) == ["inner/b"]


def test_a_stamp_changes_with_any_file_and_ends_with_one(whole: Path) -> None:
    before = stamp(whole)
    assert before is not None
    assert [one[:2] for one in before] == [
        ["a", 1234],
        ["inner/b", 2],
        [MARKER, (whole / MARKER).stat().st_size],
    ]
    assert stamp(whole) == before
    stat = (whole / "a").stat()
    assert before[0] == ["a", 1234, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
    (whole / "a").unlink()
    assert stamp(whole) is None


def test_the_first_to_finish_stays_unless_it_is_to_be_replaced(whole: Path) -> None:
    with atomic_folder(whole) as folder:
        (folder / "a").write_text("second")
    assert (whole / "a").read_text() == "a" * 1234
    with atomic_folder(whole, replace=True) as folder:
        (folder / "a").write_text("third")
    assert (whole / "a").read_text() == "third"
    assert sorted(path.name for path in whole.iterdir()) == [MARKER, "a"]
    assert [path.name for path in whole.parent.iterdir()] == ["k"]


def test_what_is_there_without_being_finished_makes_room(whole: Path) -> None:
    (whole / MARKER).unlink()
    with atomic_folder(whole) as folder:
        (folder / "a").write_text("second")
    assert (whole / "a").read_text() == "second"
    assert not (whole / "inner").exists()


def test_two_who_replace_one_at_once_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_renamed", lambda staging, target: False)
    with pytest.raises(StoreError) as caught, atomic_folder(tmp_path / "k", replace=True):
        pass
    assert str(caught.value) == (
        f"{tmp_path / 'k'} is being replaced by several processes; stop all but one and run again."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_rival_that_finished_while_one_was_replaced_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rivalled(staging: Path, target: Path) -> bool:
        shutil.copytree(staging, target)
        return False

    monkeypatch.setattr(files, "_renamed", rivalled)
    with atomic_folder(tmp_path / "kept"):
        pass  # the rival's is whole, and as good as this one
    assert is_finished(tmp_path / "kept")
    with pytest.raises(StoreError, match="replaced by several processes"), atomic_folder(tmp_path / "k", replace=True):
        pass


def test_who_replaces_holds_a_lock_already(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "runs" / "k", replace=True) as folder:
            (folder / "a").write_text(text)
    assert (tmp_path / "runs" / "k" / "a").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_is_taken_away_while_it_is_written_is_not_finished(tmp_path: Path) -> None:
    def interfered() -> None:
        with atomic_folder(tmp_path / "k") as folder:
            (folder / "a").write_text("x")
            os.rename(folder, tmp_path / "elsewhere")

    with pytest.raises(StoreError, match=r"was removed while it was written; run again\.$"):
        interfered()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_what_cannot_take_its_name_is_no_lost_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", no)
    with pytest.raises(OSError, match="cross-device"), atomic_folder(tmp_path / "k"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first_form", ["converted", "0123456789abcdef" * 4, " converted\n"])
def test_a_folder_of_the_first_form_is_taken_as_it_is(first_form: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / MARKER).write_text(first_form)
    assert adopt(tmp_path) is True
    assert changed_files(tmp_path) == []
    assert json.loads((tmp_path / MARKER).read_text())["bytes"] == {"a": 1}


@pytest.mark.parametrize("other", ["converted by hand", "abc", "0123456789ABCDEF" * 4, "{}", None])
def test_any_other_folder_is_not(other: str | None, tmp_path: Path) -> None:
    if other is not None:
        (tmp_path / MARKER).write_text(other)
    assert adopt(tmp_path) is False
    assert other is None or (tmp_path / MARKER).read_text() == other


def test_a_damaged_folder_is_set_aside_and_said(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = whole.parent.parent / "far" / DAMAGED
    (whole / "a").write_text("")
    (whole / "inner" / "b").unlink()
    kept = set_aside(whole, place)
    assert kept is not None
    assert kept.parent == place
    assert kept.name.startswith("kind-k-")
    assert len(kept.name) == len("kind-k-") + 8
    assert (kept / MARKER).exists()
    assert not whole.exists()
    said = f"harness: {whole} is damaged (a and 1 more), set aside as {kept} and made again.\n"
    assert capsys.readouterr().err == said
    assert set_aside(whole, place) is None
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in whole.parent.parent.iterdir()) == ["far", "kind", "locks"]
    with atomic_folder(whole) as folder:
        (folder / "a").write_text("again")
    (whole / "a").write_text("")
    assert set_aside(whole, place) is not None
    assert len(list(place.iterdir())) == 2


def test_one_damaged_file_is_named_alone(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (whole / "a").write_text("")
    set_aside(whole, whole.parent / DAMAGED)
    assert " is damaged (a), set aside as " in capsys.readouterr().err
