"""Stages on a remote store: whole or not there, checked, healed, and never left to one machine in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.ground.damage import PlaceError, StoreError
from results.remote import Remote
from results.stages import Stages
from tests.results.stores import Memory, fails, first, network


@pytest.fixture
def memory() -> Memory:
    return Memory()


def machine(memory: Memory, folder: Path) -> Stages:
    """A machine's view of the store, with a folder of its own."""
    return Stages(folder, Remote(network(memory, tries=3), 60.0))


@pytest.fixture
def one(memory: Memory, tmp_path: Path) -> Stages:
    return machine(memory, tmp_path / "one")


@pytest.fixture
def other(memory: Memory, tmp_path: Path) -> Stages:
    return machine(memory, tmp_path / "other")


def make(stages: Stages, text: str = "weights") -> Path:
    with stages.create("expert", "k", meta={"seconds": 1.0}) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text(text)
    return stages.path("expert", "k")


def file_of(memory: Memory) -> str:
    return next(name for name in memory.store if name.endswith("/inner/file"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_one_machine_makes_another_has(one: Stages, other: Stages) -> None:
    assert (other.find("expert", "k"), other.load("expert", "k")) == (None, None)
    made = make(one)
    other = machine(one.remote.network._given, other.root)  # type: ignore[union-attr]
    assert other.find("expert", "k") == other.path("expert", "k")
    assert not other.path("expert", "k").exists()
    assert other.load("expert", "k") == other.path("expert", "k")
    assert content(other.path("expert", "k")) == content(made)
    assert other.meta("expert", "k") == {"seconds": 1.0}


def test_what_a_stage_cost_is_read_without_bringing_it(one: Stages, other: Stages, memory: Memory) -> None:
    make(one)
    assert other.meta("expert", "k") == {"seconds": 1.0}
    assert not other.path("expert", "k").exists()
    memory.pipe_file(next(name for name in memory.store if name.endswith("meta.json")), b'{"seconds": 9.0}')
    with pytest.raises(KeyError):
        other.meta("expert", "k")


def test_who_has_the_claim_looks_anew_and_others_soon(one: Stages, other: Stages) -> None:
    assert other.load("expert", "k") is None
    make(one)
    with other.claim("expert", "k") as mine:
        assert mine
        assert other.load("expert", "k") is not None


def test_a_claim_holds_on_every_machine(one: Stages, other: Stages) -> None:
    with one.claim("expert", "k") as mine, other.claim("expert", "k") as theirs:
        assert (mine, theirs) == (True, False)
        assert other.claimant("expert", "k").startswith("process ")


def test_the_first_to_finish_is_kept_and_nothing_of_the_second(one: Stages, other: Stages, memory: Memory) -> None:
    with other.create("expert", "k") as slow:
        (slow / "late").write_text("late")
        make(one)
    assert [name for name in memory.held() if "late" in name] == []
    assert len(memory.held()) == 3


def test_what_a_killed_upload_left_goes_with_the_next(one: Stages, memory: Memory) -> None:
    one.remote.network.write("expert/k/host.boot.1.2.abc/inner/file", b"half")  # type: ignore[union-attr]
    assert machine(memory, one.root.parent / "third").load("expert", "k") is None
    make(one)
    assert len(memory.held()) == 3


def test_what_a_folder_has_from_before_is_brought_to_the_store_when_it_is_used(
    one: Stages, other: Stages, memory: Memory
) -> None:
    make(Stages(one.root))
    assert memory.held() == []
    assert one.load("expert", "k") is not None
    assert other.load("expert", "k") is not None


def test_what_another_process_of_the_machine_is_bringing_is_not_brought_twice(one: Stages, memory: Memory) -> None:
    beside = machine(memory, one.root)
    with one.claim("expert", "k"):
        make(Stages(one.root))
        assert beside.load("expert", "k") is not None
        assert [name for name in memory.held() if name.startswith("expert/")] == []
        assert one.load("expert", "k") is not None
        assert len([name for name in memory.held() if name.startswith("expert/")]) == 2


@pytest.mark.parametrize("damage", ["changed", "gone", "marker cut off", "marker leads out"])
def test_what_is_damaged_there_is_named_once_and_made_again(
    damage: str, one: Stages, other: Stages, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    make(one)
    marker = next(name for name in memory.store if "/DONE/" in name)
    if damage == "changed":
        memory.pipe_file(file_of(memory), b"weightz")
    elif damage == "gone":
        memory.rm(file_of(memory))
    elif damage == "marker cut off":
        memory.pipe_file(marker, memory.cat_file(marker)[:50])
    else:
        said = json.loads(memory.cat_file(marker))
        said["sha256"] = {"../../../outside": "0" * 64}
        memory.pipe_file(marker, json.dumps(said).encode())
    if damage in ("changed", "gone"):
        assert other.faults("expert", "k") == [
            "inner/file is not the file that was written" if damage == "changed" else "inner/file is gone"
        ]
    assert other.load("expert", "k") is None
    assert other.load("expert", "k") is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harness: memory://bucket/stages/expert/k is damaged (")
    assert not list(other.root.rglob("*outside*"))
    make(other, "new")
    assert machine(memory, one.root.parent / "third").load("expert", "k") is not None
    assert one.faults("expert", "k") == []


def test_what_is_damaged_here_comes_from_there(one: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(one)
    (folder / "inner" / "file").write_text("weightz")
    assert one.load("expert", "k") == folder
    assert (folder / "inner" / "file").read_text() == "weights"
    assert "is damaged (inner/file)" in capsys.readouterr().err


def test_a_reading_that_was_wrong_once_is_no_damage(one: Stages, other: Stages, memory: Memory) -> None:
    make(one)
    get, wrong = memory.get_file, iter([b"weightz"])

    def cut(rpath: str, lpath: str, *arguments: object, **kwargs: object) -> None:
        get(rpath, lpath)
        if rpath.endswith("inner/file"):
            for data in wrong:
                Path(lpath).write_bytes(data)

    memory.get_file = cut  # type: ignore[method-assign]
    assert other.load("expert", "k") is not None


def test_a_newer_version_is_refused(one: Stages, other: Stages, memory: Memory) -> None:
    make(one)
    marker = next(name for name in memory.store if "/DONE/" in name)
    memory.pipe_file(marker, json.dumps(json.loads(memory.cat_file(marker)) | {"version": 99}).encode())
    with pytest.raises(StoreError, match="newer than"):
        other.load("expert", "k")


@pytest.mark.parametrize("operation", ["write", "read", "list"])
def test_a_store_that_is_down_is_said_and_never_taken_for_an_empty_one(
    operation: str, one: Stages, other: Stages, memory: Memory
) -> None:
    if operation != "write":
        make(one)
    memory.trouble = first(10**6, fails, operation)
    with pytest.raises(PlaceError, match="memory://bucket/stages cannot be"), other.claim("expert", "k"):
        pass
    use = make if operation == "write" else lambda stages: stages.load("expert", "k")
    with pytest.raises(PlaceError, match="memory://bucket/stages cannot be"):
        use(other)


def test_an_upload_that_fails_leaves_no_finished_stage_and_comes_with_the_next_use(
    one: Stages, other: Stages, memory: Memory
) -> None:
    one.require()
    memory.trouble = first(10**6, fails)
    with pytest.raises(PlaceError):
        make(one)
    memory.trouble = lambda operation, path: None
    assert other.load("expert", "k") is None
    assert one.load("expert", "k") is not None
    with other.claim("expert", "k"):
        assert other.load("expert", "k") is not None


def test_an_address_opens_the_store_again(tmp_path: Path) -> None:
    remote = Stages.at("s3://bucket/prefix/", tmp_path)
    assert (remote.address, remote.root) == ("s3://bucket/prefix", tmp_path)
    for plain in (Stages.at(tmp_path / "stages", tmp_path), Stages.at(f"file://{tmp_path}/stages", tmp_path)):
        assert (plain.address, plain.remote) == (str(tmp_path / "stages"), None)


def test_what_is_set_aside_is_the_marker_and_can_be_looked_at(one: Stages, other: Stages, memory: Memory) -> None:
    make(one)
    marker = memory.cat_file("/bucket/stages/DONE/expert/k")
    memory.pipe_file(file_of(memory), b"weightz")
    assert other.remote is not None
    assert other.remote.fetch("expert", "k", other.path("expert", "k")) is False
    (kept,) = [name for name in memory.held() if name.startswith("damaged/")]
    assert kept.startswith("damaged/expert-k-")
    assert memory.cat_file(f"/bucket/stages/{kept}") == marker
    assert other.remote.fetch("expert", "k", other.path("expert", "k")) is False


def test_a_list_is_believed_for_some_seconds(one: Stages, other: Stages, memory: Memory) -> None:
    lists: list[str] = []
    memory.trouble = lambda operation, path: lists.append(path) if operation == "list" else None  # type: ignore[func-returns-value]
    for key in ("a", "b", "k"):
        assert other.find("expert", key) is None
    assert len(lists) == 1
    make(one)
    assert other.find("expert", "k") is None
    assert other.remote is not None
    other.remote._lists.clear()
    assert other.find("expert", "k") is not None
