"""The store of stages: names, addresses, and what is found, read and said of what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.ground import owners
from results.ground.damage import StoreError
from results.remote import Remote, _parsed
from results.stages import COMPOSED, EXPERT, OUTPUTS, Stages
from tests.results.stores import Memory, network


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path / "stages")


def make(stages: Stages, key: str = "k", text: str = "weights", meta: dict[str, object] | None = None) -> Path:
    with stages.create("expert", key, meta) as folder:
        (folder / "weights").write_text(text)
    return stages.path("expert", key)


@pytest.mark.parametrize("name", ["a", "A1", "0", "a.b-c_d"])
def test_a_stage_has_a_plain_name(name: str, stages: Stages) -> None:
    assert stages.path(name, name) == stages.root / name / name


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "é", "a\n"])
def test_no_other_name_is_one(name: str, stages: Stages) -> None:
    for kind, key in ((name, "k"), ("expert", name)):
        with pytest.raises(ValueError, match=r"^not a name for a stage: ") as caught:
            stages.path(kind, key)
        assert str(caught.value).endswith(repr(name))
    with pytest.raises(ValueError, match="not a name"), stages.claim("expert", name):
        pass


def test_a_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert Stages(Path("~/stages")).root == Path("/home/ada/stages")


def test_what_is_stored_is_found_and_loaded(stages: Stages) -> None:
    assert (stages.find("expert", "k"), stages.load("expert", "k"), stages.faults("expert", "k")) == (None, None, None)
    folder = make(stages)
    assert stages.find("expert", "k") == stages.load("expert", "k") == stages.load("expert", "k") == folder
    assert stages.faults("expert", "k") == []
    assert stages.find("expert", "other") is None
    assert stages.find("composed", "k") is None


def test_what_was_cut_off_before_it_was_whole_is_not_there_and_not_set_aside(stages: Stages) -> None:
    folder = make(stages)
    (folder / "DONE").unlink()
    assert stages.load("expert", "k") is None
    assert stages.faults("expert", "k") is None
    assert folder.exists()
    assert make(stages, text="new") == stages.load("expert", "k")


def test_a_damaged_stage_is_looked_at_without_being_touched(stages: Stages) -> None:
    folder = make(stages)
    (folder / "weights").write_text("weightz")
    assert stages.find("expert", "k") == folder
    assert stages.faults("expert", "k") == ["weights is not the file that was written"]
    assert folder.exists()
    (folder / "DONE").write_text(json.dumps({"version": 99, "sha256": {}}))
    (said,) = stages.faults("expert", "k") or []
    assert said.endswith("--output)")
    assert "newer than 2" in said


def test_meta_is_what_was_given_and_empty_without(stages: Stages) -> None:
    make(stages, meta={"seconds": 1.5, "of": ["é"]})
    assert stages.meta("expert", "k") == {"seconds": 1.5, "of": ["é"]}
    make(stages, "plain")
    assert stages.meta("expert", "plain") == {}
    with pytest.raises(KeyError, match="expert/none"):
        stages.meta("expert", "none")
    (stages.path("expert", "k") / "meta.json").write_text("{}")
    with pytest.raises(KeyError, match="expert/k"):
        stages.meta("expert", "k")


def test_meta_may_be_written_inside(stages: Stages) -> None:
    with stages.create("expert", "k", {"seconds": 0.0}) as folder:
        (folder / "meta.json").write_text('{"seconds": 2.0}')
    assert stages.meta("expert", "k") == {"seconds": 2.0}


def test_a_claim_is_of_a_kind_and_a_key(stages: Stages) -> None:
    assert stages.claimant("expert", "k") == "another process"
    with (
        stages.claim("expert", "k") as mine,
        stages.claim("expert", "k") as again,
        stages.claim("composed", "k") as next_,
    ):
        assert (mine, again, next_) == (True, False, True)
        assert stages.claimant("expert", "k") == owners.myself().said()
    with stages.claim("expert", "k") as mine:
        assert mine


def test_sweeping_removes_leftovers_of_every_kind_and_nothing_else(stages: Stages) -> None:
    me = owners.myself()
    dead = me.model_copy(update={"started": me.started + 1})
    make(stages)
    for kind in (EXPERT, COMPOSED, OUTPUTS, "another"):
        (stages.root / kind / f".staging-k.{dead.text()}.0").mkdir(parents=True)
    (stages.root / "locks").mkdir(exist_ok=True)
    (stages.root / "locks" / "a.lock.owner").write_text(dead.model_dump_json())
    stages.sweep()
    left = sorted(str(path.relative_to(stages.root)) for path in stages.root.rglob(".staging-*"))
    assert left == [f"another/.staging-k.{dead.text()}.0"]
    assert not (stages.root / "locks" / "a.lock.owner").exists()
    assert stages.load("expert", "k") is not None


def test_an_address_is_a_folder_or_a_url(tmp_path: Path) -> None:
    assert Stages.at(tmp_path / "a", tmp_path / "b").root == tmp_path / "a"
    assert Stages.at(f"file://{tmp_path}/a", tmp_path / "b").root == tmp_path / "a"
    remote = Stages.at("s3://bucket/a", tmp_path / "b", patience=7.0)
    assert remote.root == tmp_path / "b"
    assert remote.remote is not None
    assert remote.remote.claims.patience == 7.0
    assert Stages(Path("relative")).address == str(Path("relative").resolve())
    Stages(tmp_path).require()  # a folder has nothing to be asked


def machine(memory: Memory, folder: Path) -> Stages:
    return Stages(folder, Remote(network(memory, tries=3), 60.0))


def test_what_is_behind_a_store_is_found_before_it_is_brought(tmp_path: Path) -> None:
    memory = Memory()
    one, other = machine(memory, tmp_path / "one"), machine(memory, tmp_path / "other")
    assert one.remote is not None
    assert not one.remote.has("expert", "k")
    assert one.faults("expert", "k") is None
    make(one, meta={"seconds": 3.0})
    assert one.remote.has("expert", "k")
    assert other.find("expert", "k") == other.path("expert", "k")
    assert other.faults("expert", "k") == []
    assert other.remote is not None
    assert other.remote.part("expert", "k", "weights") == b"weights"
    assert other.remote.part("expert", "k", "none") is None
    assert other.remote.part("expert", "none", "weights") is None
    assert not other.remote.claims_it("expert", "k")
    with other.claim("expert", "k") as mine:
        assert mine
        assert other.remote.claims_it("expert", "k")
        assert one.claimant("expert", "k") == owners.myself().said()
    assert not other.remote.claims_it("expert", "k")
    assert other.remote.holder("expert", "k") is None
    assert not other.path("expert", "k").exists()


def test_a_remote_marker_says_where_its_files_are_and_leads_nowhere_else() -> None:
    whole = {"version": 2, "sha256": {"a/b": "0"}, "bytes": {"a/b": 3}, "at": "here"}
    found = _parsed(json.dumps(whole).encode(), "p")
    assert found is not None
    assert (found.folder, found.sha256, found.bytes) == ("here", {"a/b": "0"}, {"a/b": 3})
    for at in (None, "", "a/b", "..", "/a", 3):
        assert _parsed(json.dumps(whole | {"at": at}).encode(), "p") is None
    for name in ("../a", "/a", "", "a\\b", "a/../b", "."):
        assert _parsed(json.dumps(whole | {"sha256": {name: "0"}}).encode(), "p") is None
    assert _parsed(b"{", "p") is None
    with pytest.raises(StoreError, match=r"^p has version 9, newer than 2"):
        _parsed(json.dumps(whole | {"version": 9}).encode(), "p")


def test_what_was_read_once_is_not_read_again(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    from results import stages as module

    folder, read, look = make(stages), [], module.changed_files
    monkeypatch.setattr(module, "changed_files", lambda path: read.append(path) or look(path))
    for _ in range(3):
        assert stages.load("expert", "k") == folder
    assert read == [folder]


def test_a_remote_store_is_tried_once_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, tried = machine(Memory(), tmp_path), []
    assert stages.remote is not None
    monkeypatch.setattr(stages.remote.network, "require_conditional", lambda: tried.append(1))
    stages.require()
    stages.require()
    assert tried == [1]
