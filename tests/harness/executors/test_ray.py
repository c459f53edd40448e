"""Runs on clusters of two and three raylets: the same tables, whatever becomes of a node."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import ray

from harness.executors import nodes as cluster_nodes
from harness.executors.units import Units
from harness.executors.worker import greet, token_file
from harness.runs import Run
from results.store import RunFolder
from tests.harness.executors.conftest import SLEEPY, busy, sleepers, sleeps
from tests.harness.runs.command import TINY, call

pytestmark = [pytest.mark.assets, pytest.mark.model]

TIMES = {"seconds", "peak_memory", "peak_memory_bytes"}


@pytest.fixture
def line(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run of three methods on two tasks, without its folder; the third word is the methods."""
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.delenv("HARNESS_SLEEPS", raising=False)
    return ["run", "--methods", "base,uniform,mixer", "--tasks", "sst2,mrpc", *TINY, "--model", str(tiny_model),
            "--device", "cpu", "--output"]  # fmt: skip


def cells(run: Path) -> list[dict[str, Any]]:
    """Everything in a run's records and items but times and what computed them."""
    folder = RunFolder.open(run)
    found = []
    for record in folder.records():
        said = record.model_dump(mode="json", exclude={"environment", "arguments"})
        said["cost"] = {key: value for key, value in said["cost"].items() if key not in TIMES}
        found.append(said | {"items": [item.model_dump(mode="json") for item in folder.items(record.cell)]})
    return found


def locally(line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The same, computed by this process alone."""
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "other-stages"))
    call(*line, str(tmp_path / "local"))
    return cells(tmp_path / "local")


def test_three_nodes_give_the_table_of_this_machine(
    three: tuple[Any, list[Any]],
    line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What fails is a record as it is here; cells that sleep keep everybody busy; no secret is left in a log."""
    monkeypatch.setenv("HF_TOKEN", "hf-n0b0dy")
    monkeypatch.setenv("HARNESS_SLEEPS", str(tmp_path / "sleeps"))
    line[2] += f",{sleepers(6, 0.5)},{SLEEPY}[seconds=-1]"
    assert call(*line, str(tmp_path / "run"), "--executor", "ray") == 1
    said = capsys.readouterr().err
    assert all(f"on {node.name}: done in" in said for node in cluster_nodes.alive(ray.nodes()) if node.cpus)
    assert busy(tmp_path / "sleeps") > 0.4
    found = cells(tmp_path / "run")
    assert Counter(cell["status"] for cell in found) == {"done": 18, "failed": 2}
    assert "ValueError: sleep length" in str(found[-1]["error"])
    assert "sleepy.py" in (tmp_path / "run" / "failures.log").read_text()
    logs = [path.read_bytes() for path in Path(ray._private.worker._global_node.get_logs_dir_path()).rglob("*.*")]
    assert any(logs)
    assert not any(b"hf-n0b0dy" in log for log in logs)
    assert found == locally(line, tmp_path, monkeypatch)


def test_nodes_that_share_nothing_or_run_another_harness_are_named(
    three: tuple[Any, list[Any]],
    line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster_nodes, "sources", lambda: "feedbeef")
    assert call(*line, str(tmp_path / "run"), "--executor", "ray") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("harness: The node ")
    assert said.endswith(", feedbeef): install the same version there.")
    monkeypatch.undo()
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setattr(cluster_nodes, "token_file", lambda *place: token_file(*place[:2], "elsewhere"))
    assert call(*line, str(tmp_path / "run"), "--executor", "ray") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"cannot use {tmp_path / 'stages'} (No such file or directory): put it on a file system" in said
    assert not [path for folder in ("run", "stages") for path in (tmp_path / folder).glob(".handshake*")]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_where_nobody_answers_is_said(
    address: str, line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert call(*line, str(tmp_path / "run"), "--executor", "ray") == 2
    assert f"harness: No Ray cluster answers at {address}: start it" in capsys.readouterr().err


def test_a_node_reads_the_token_and_answers(tmp_path: Path) -> None:
    asked = [str(tmp_path)], str(tmp_path), "token", "node"
    assert greet(*asked)[1:] == (str(tmp_path), "No such file or directory")
    token_file(str(tmp_path), "token").write_text("another")
    assert greet(*asked)[1:] == (str(tmp_path), "holds another token")
    token_file(str(tmp_path), "token").write_text("token")
    assert greet(*asked)[1:] == ("", "")
    assert token_file(str(tmp_path), "token", "node").read_text() == "node"
    assert greet(asked[0], "/no/such", "token", "node")[1:] == ("/no/such", "No such directory")


def test_without_room_for_a_worker_one_sentence_says_what_it_takes(
    three: tuple[Any, list[Any]],
    line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("harness.facts.peak_bytes", lambda *_, **__: 2**60)
    assert call(*line, str(tmp_path / "run"), "--executor", "ray") == 2
    assert "No node of the cluster has room for a worker, which takes 1 CPU and" in capsys.readouterr().err


def test_a_node_that_is_killed_in_the_middle_changes_nothing(
    three: tuple[Any, list[Any]],
    line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two workers sleep over a cell each when the node of one of them goes."""
    monkeypatch.setenv("HARNESS_SLEEPS", str(tmp_path / "sleeps"))
    line[2] += f",{sleepers(4, 1.0)}"
    cluster, nodes = three

    def kill() -> None:
        end = time.monotonic() + 120
        while len(there := sleeps(tmp_path / "sleeps")) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        cluster.remove_node(next(node for node in nodes if node.node_id in there), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    assert call(*line, str(tmp_path / "run"), "--executor", "ray", "--workers", "2") == 0
    killer.join()
    assert capsys.readouterr().err.count("was lost while it was at") == 1
    assert cells(tmp_path / "run") == locally(line, tmp_path, monkeypatch)
    assert RunFolder.open(tmp_path / "run").verify() == []


def test_a_unit_whose_workers_are_lost_each_time_is_a_record_and_the_rest_goes_on(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a cluster: a stand-in for Ray computes here, and loses whoever trains the expert for sst2."""
    monkeypatch.setattr("harness.executors.ray._connected", lambda cluster: nullcontext())
    monkeypatch.setattr("harness.executors.ray.Handshake", lambda *_: SimpleNamespace(refusals=lambda nodes: {}))
    here = {"NodeID": "cafe", "Alive": True, "NodeManagerHostname": "here", "Resources": {"CPU": 1, "memory": 2**40}}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", (standin := Standin(here, "sst2")))
        assert call(*line, str(tmp_path / "run"), "--executor", "ray") == 1
    assert standin.hired == 4
    assert capsys.readouterr().err.count("here (cafe) was lost while it was at expert sst2, which goes") == 2
    records = RunFolder.open(tmp_path / "run").records()
    assert [one.status for one in records] == ["done", "done", "failed", "failed", "failed", "failed"]
    assert str(records[-1].error) == "its worker was lost 3 times, last on here (cafe): no more memory"


class Standin(ModuleType):
    """What the executor asks of Ray, done in this process at once.

    Args:
        node: the only one.
        cursed: expert whose worker dies.
    """

    def __init__(self, node: dict[str, Any], cursed: str) -> None:
        super().__init__("ray")
        self.node, self.cursed, self.hired = node, cursed, 0
        self.exceptions = ray.exceptions

    def nodes(self) -> list[dict[str, Any]]:
        return [self.node]

    def remote(self, worker: Any) -> Any:
        def hire(work: Any, environment: dict[str, str]) -> Any:
            self.hired += 1
            engines = Run.open(Path(work.folder)).engines
            cursed = [one.key for cell in engines[0].plan.cells for one in cell.pool if one.name == self.cursed]
            units = Units(engines)

            def compute(kind: str, key: str, *rest: Any) -> Any:
                return None if key in cursed else units.compute(kind, key, *rest)

            return SimpleNamespace(
                start=SimpleNamespace(remote=lambda: Answer(("cafe", ""))),
                compute=SimpleNamespace(remote=lambda *asked: Answer(compute(*asked))),
            )

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=hire))

    def wait(self, refs: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return refs[:1], refs[1:]

    def get(self, ref: Any) -> Any:
        if ref.value is None:
            raise ray.exceptions.OutOfMemoryError("no more memory")
        return ref.value

    def kill(self, *_: Any, **__: Any) -> None: ...


class Answer:
    """What a worker of `Standin` gives back."""

    def __init__(self, value: Any) -> None:
        self.value = value
