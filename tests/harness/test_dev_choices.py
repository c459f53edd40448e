"""Choices on development rows, experts alone and ensembles through the whole engine, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.schema import Record
from results.store import RunFolder
from tests.harness.runs.command import printed

pytestmark = [pytest.mark.assets, pytest.mark.model]

METHODS = (
    "uniform,lora[expert=arc],best-single,best-single[mode=per_task],task-arithmetic[grid=[0.2,0.5]],tsv,"
    "core-space[merge=ties,grid=[0.5,1.0]],ensemble,ensemble-dev,regmean"
)
Records = dict[tuple[str, str], Record]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Records:
    folder = tmp_path_factory.mktemp("choices")
    done = printed(
        *("run", "--methods", METHODS, "--tasks", "sst2,arc-e,rte"),
        *("--preset", "smoke", "--model", str(tiny_model), "--limit", "4", "--set", "experts.names=[sst2,arc]"),
        *("--output", str(folder / "run")),
        stages=folder / "stages",
    )
    assert done.returncode == 0, done.stderr
    return {(record.spec.method, record.spec.task): record for record in RunFolder.open(folder / "run").records()}


def test_every_cell_is_computed(records: Records) -> None:
    assert len(records) == 30
    assert {record.status for record in records.values()} == {"done"}, [record.error for record in records.values()]


def test_a_named_expert_serves_every_task_and_is_told_none(records: Records) -> None:
    for task in ("sst2", "arc-e", "rte"):
        record = records["lora[expert=arc]", task]
        assert list(record.spec.pool) == ["arc"]
        assert not record.uses_task_identity


def test_the_best_expert_is_chosen_once_or_for_each_task(records: Records) -> None:
    for task in ("sst2", "arc-e", "rte"):
        *tried, found = records["best-single", task].training_log
        assert [entry["expert"] for entry in tried] == ["sst2", "arc"]
        assert found["dev_loss"] == min(entry["dev_loss"] for entry in tried)
        assert found == records["best-single", "sst2"].training_log[-1]
        assert f"best-single: the expert {found['expert']}" in " ".join(records["best-single", task].notes)
    own = {task: records["best-single[mode=per_task]", task] for task in ("sst2", "arc-e", "rte")}
    assert all(record.uses_task_identity for record in own.values())
    assert len({record.training_log[0]["dev_loss"] for record in own.values()}) == 3


def test_lambda_is_chosen_from_the_grid(records: Records) -> None:
    for method, grid in (
        ("task-arithmetic[grid=[0.2,0.5]]", [0.2, 0.5]),
        ("core-space[grid=[0.5,1.0],merge=ties]", [0.5, 1.0]),
    ):
        *tried, found = records[method, "rte"].training_log
        assert [entry["scaling"] for entry in tried] == grid
        assert found["scaling"] in grid
        assert "chosen on development rows" in " ".join(records[method, "rte"].notes)
    assert records["tsv", "rte"].training_log == []


def test_an_ensemble_costs_a_pass_for_each_expert(records: Records) -> None:
    for task in ("sst2", "arc-e", "rte"):
        one, two = records["uniform", task], records["ensemble", task]
        assert (one.cost.passes, two.cost.passes) == (1, 2)
        assert two.extra["evaluation_path"] == one.extra["evaluation_path"] == "shared"
        assert two.cost.tokens["evaluation_computed"] == 2 * one.cost.tokens["evaluation_computed"]
        trained = records["ensemble-dev", task]
        assert trained.parameters.trainable == {"weights": 2}
        assert trained.training_log
        assert "weights of the experts sst2 0." in " ".join(trained.notes)
