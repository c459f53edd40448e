"""`harness doctor`: each feature works or names its mend, and looking leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.commands import doctor
from harness.commands.doctor import Finding
from results.ground.network import Network
from tasks import registry
from tests.results.stores import Memory, Overwrites, first, loses, network


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[dict[str, Any]], Path]:
    """Exit code, what was said as JSON, and the folder of an empty store."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(root / "stages"))
        patch.delenv("DEEPSEEK_API_KEY", raising=False)
        done = CliRunner().invoke(app, ["doctor", "--json"])
    return done.exit_code, json.loads(done.stdout), root


def test_everything_works_or_names_its_mend(found: tuple[int, list[dict[str, Any]], Path]) -> None:
    _, rows, _ = found
    features = [row["feature"] for row in rows]
    assert len(set(features)) == len(features)
    assert {f"task {name}" for name in registry.names()} <= set(features)
    assert {"Python", "torch", "device", "memory", "disk", "store: locks", "LaTeX", "ray", "judge local"} <= set(
        features
    )
    for row in rows:
        assert row["detail"]
        assert bool(row["mend"]) is not row["works"], row


def test_it_leaves_nothing_behind(found: tuple[int, list[dict[str, Any]], Path]) -> None:
    assert list(found[2].iterdir()) == []


def test_only_what_the_defaults_need_ends_with_one(found: tuple[int, list[dict[str, Any]], Path]) -> None:
    code, rows, _ = found
    assert code == int(any(row["needed"] and not row["works"] for row in rows))
    assert any(not row["works"] for row in rows)


@pytest.mark.parametrize(("needed", "code"), [(True, 1), (False, 0)])
def test_the_exit_code(needed: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("a", False, needed, "is broken", "mend it")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([broken]),))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == code
    assert done.stdout.rstrip().endswith("a: is broken → mend it")


def test_a_store_without_locks_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path))

    def refused(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    rows = {one.feature: one for one in doctor._store()}
    assert rows["store: atomic rename"].works
    assert not rows["store: locks"].works
    assert "HARNESS_STAGES" in rows["store: locks"].mend
    assert list(tmp_path.iterdir()) == []


def test_a_remote_store_is_written_to_read_back_and_contended_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def remote(memory: Memory) -> list[tuple[str, bool]]:
        monkeypatch.setattr(Network, "_filesystem", memory)
        found = list(doctor._remote_store(network(memory)))
        assert all(bool(one.mend) is not one.works for one in found)
        return [(one.feature.removeprefix("remote store: "), one.works) for one in found]

    memory = Memory()
    assert remote(memory) == [("write", True), ("read back", True), ("conditional write", True)]
    assert memory.held() == []
    memory.trouble = first(99, loses)
    assert remote(memory) == [("write", False)]
    assert remote(Overwrites()) == [("write", True), ("read back", True), ("conditional write", False)]


def test_a_url_that_is_none_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_STAGES", "s3://key:secret@bucket")
    (one,) = doctor._store()
    assert not one.works
    assert "secret" not in one.detail
