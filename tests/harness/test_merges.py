"""Merges and searched weights through the whole engine, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.schema import Record
from results.store import RunFolder
from tests.harness.runs.command import printed

pytestmark = [pytest.mark.assets, pytest.mark.model]

METHODS = "svd,ties,dare,lego,lorahub,lorahub[mode=pooled],cat-soup"
POOL = "experts.names=[sst2,arc]"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[Record]:
    folder = tmp_path_factory.mktemp("merges")
    done = printed(
        *("run", "--methods", METHODS, "--tasks", "sst2,arc-e,rte"),
        *("--preset", "smoke", "--model", str(tiny_model), "--limit", "4", "--set", POOL),
        *("--set", "methods.lorahub.budget=8", "--output", str(folder / "run")),
        stages=folder / "stages",
    )
    assert done.returncode == 0, done.stderr
    return list(RunFolder.open(folder / "run").records())


def test_every_cell_is_computed(records: list[Record]) -> None:
    assert len(records) == 21
    assert {record.status for record in records} == {"done"}, [record.notes for record in records]


def found(record: Record) -> list[float]:
    *evaluations, last = record.training_log
    assert len(evaluations) == 8
    assert last["phase"] == "found"
    assert last["optimizer"] == "NGOpt"
    assert last["resolved"]
    assert last["nevergrad"]
    weights = last["weights"]
    assert isinstance(weights, list)
    return weights


def test_each_task_has_its_own_search(records: list[Record]) -> None:
    """Also a task that no expert serves: it has routing rows of its own."""
    own = {r.spec.task: r for r in records if r.spec.method.startswith("lorahub[") and "pooled" not in r.spec.method}
    assert own.keys() == {"sst2", "arc-e", "rte"}
    assert all(record.uses_task_identity for record in own.values())
    first = {task: record.training_log[0]["task"] for task, record in own.items()}
    assert len(set(first.values())) == 3
    for record in own.values():
        assert len(found(record)) == 2


def test_pooled_weights_are_searched_once(records: list[Record]) -> None:
    pooled = [record for record in records if "pooled" in record.spec.method]
    assert len(pooled) == 3
    assert not any(record.uses_task_identity for record in pooled)
    assert len({tuple(found(record)) for record in pooled}) == 1


def test_tasks_without_rows_use_their_experts(tiny_model: Path) -> None:
    from harness.planning.config import resolve
    from harness.planning.plan import Plan
    from harness.planning.sources import open_source

    def plan(*pool: str) -> Plan:
        values = {
            "model": {"name": str(tiny_model)},
            "methods": ["lorahub"],
            "tasks": ["sst2"],
            "experts": {"names": list(pool)},
        }
        return Plan(resolve("smoke", values), open_source("bundled"))

    both = plan("sst2", "mbpp")
    assert [task.name for task in both.target_tasks("humaneval")] == ["mbpp"]
    assert [task.name for task in both.target_tasks("sst2")] == ["sst2"]
    assert plan("sst2").target_tasks("humaneval") == []
