"""The stores: whole or not at all, equal bytes for equal content, and honest about what is unfinished."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from results.ground.digest import digest
from results.ground.files import atomic_folder, is_finished, read_json, write_json
from results.schema import (
    Budget,
    CellSpec,
    Cost,
    DataProvenance,
    Environment,
    Item,
    Metric,
    ModelProvenance,
    Parameters,
    PlannedCell,
    Record,
    RunInfo,
)
from results.store import RunFolder, Stages, StoreError, dump_items, load_items


def make_record(method: str = "mixer", seed: int = 0, status: str = "done", n: int = 2) -> Record:
    spec = CellSpec(
        model="tiny",
        model_revision="r0",
        dtype="float32",
        chat_template=False,
        method=method,
        method_name=method,
        method_version=1,
        method_config={},
        pool={"sst2": "a1"},
        task="sst2",
        task_name="sst2",
        task_version="1",
        task_config={"shots": 0},
        data_fingerprint="d0",
        routing_fingerprint=None,
        training={},
        seed=seed,
    )
    return Record(
        cell=digest(spec),
        spec=spec,
        status=status,
        error=None if status == "done" else "It failed.",
        track="compose",
        uses_task_identity=False,
        data=DataProvenance(source="bundled", origin="x", fingerprint="d0", part_sizes={"eval": n}),
        model=ModelProvenance(
            name="tiny", revision="r0", label="Tiny", parameters=10, dtype="float32", chat_template=False
        ),
        budget=Budget(preset="quick", expert_tokens=1, router_tokens=1, eval_items=n, max_new_tokens=8),
        environment=Environment(packages={}, python="3.11", hardware="cpu"),
        primary="acc",
        metrics={"acc": Metric(value=0.5, n=n)},
        chance=0.5,
        majority=0.5,
        n_items=n,
        parameters=Parameters(trainable={}, stored={}),
        cost=Cost(seconds={}),
    )


def make_items(n: int = 2) -> list[Item]:
    return [
        Item(
            id=f"i{k}",
            prompt="p",
            outputs=[[-1e30, False], [-1.5, True]],
            gold="a",
            prediction="b",
            metrics={"acc": float(k % 2), "judge": None},
        )
        for k in range(n)
    ]


def planned(record: Record) -> PlannedCell:
    spec = record.spec
    return PlannedCell(cell=record.cell, method=spec.method, task=spec.task, seed=spec.seed)


def new_run(path: Path, *records: Record) -> RunFolder:
    info = RunInfo(name=path.name, cells=[planned(record) for record in records])
    return RunFolder.create(path, info)


def missing(run: RunFolder) -> list[PlannedCell]:
    return [planned for planned in run.info.cells if not run.finished(planned.cell)]


def test_items_survive_and_are_equal_bytes() -> None:
    items = make_items()
    data = dump_items(items)
    time.sleep(1.1)  # gzip headers carry seconds unless told otherwise
    assert dump_items(items) == data
    assert load_items(data) == items


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_stored_is_strict_json(bad: float, tmp_path: Path) -> None:
    item = make_items(1)[0].model_copy(update={"outputs": [[bad, False], [-1.5, True]]})
    with pytest.raises(ValueError, match="JSON"):
        dump_items([item])
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": bad})
    with pytest.raises(ValueError, match="finite"):
        Item(**{**make_items(1)[0].model_dump(), "metrics": {"acc": bad}})
    assert not list(tmp_path.iterdir())


def test_cell_round_trip(tmp_path: Path) -> None:
    record = make_record()
    run = new_run(tmp_path / "run", record)
    assert [cell.cell for cell in missing(run)] == [record.cell]
    run.write_cell(record, make_items())
    again = RunFolder.open(tmp_path / "run")
    assert again.info == run.info
    assert again.records() == [record]
    assert again.items(record.cell) == make_items()
    assert missing(again) == []
    assert again.verify() == []


def test_failed_cell_is_a_record_but_not_finished(tmp_path: Path) -> None:
    failed = make_record(status="failed")
    run = new_run(tmp_path, failed)
    run.write_cell(failed, [])
    assert run.records()[0].error == "It failed."
    assert missing(run) == list(run.info.cells)
    run.write_cell(make_record(), make_items())
    assert missing(run) == []
    assert run.records()[0].status == "done"


@pytest.mark.parametrize("damage", ["no marker", "cut-off marker", "missing file"])
def test_cut_off_cell_is_not_finished_and_is_replaced(tmp_path: Path, damage: str) -> None:
    record = make_record()
    run = new_run(tmp_path, record)
    run.write_cell(record, make_items())
    folder = run.cell_folder(record.cell)
    match damage:
        case "no marker":
            (folder / "DONE").unlink()
        case "cut-off marker":
            (folder / "DONE").write_text((folder / "DONE").read_text()[:20])
        case "missing file":
            (folder / "items.jsonl.gz").unlink()
    assert run.record(record.cell) is None
    assert missing(run) != []
    run.write_cell(record, make_items())
    assert missing(run) == []
    assert run.items(record.cell) == make_items()


def test_damaged_content_is_named(tmp_path: Path) -> None:
    record = make_record()
    run = new_run(tmp_path, record)
    run.write_cell(record, make_items())
    path = run.cell_folder(record.cell) / "items.jsonl.gz"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(StoreError, match="damaged; remove its folder"):
        run.items(record.cell)
    assert any("not the file that was written" in problem for problem in run.verify())
    assert missing(run) != []
    path.write_bytes(dump_items(make_items(3)))
    assert any("not the file that was written" in problem for problem in run.verify())


def test_a_metric_that_is_not_its_items_mean_is_named(tmp_path: Path) -> None:
    record = make_record()
    run = new_run(tmp_path, record)
    run.write_cell(record, make_items())
    assert run.verify() == []
    run.write_cell(record, [make_items()[1]] * 2)
    assert [problem.split(": ")[1] for problem in run.verify()] == [
        "acc is not the mean of its items; score them again with `harness rescore`."
    ]


def test_plan_of_the_latest_start_counts(tmp_path: Path) -> None:
    first, second = make_record(seed=0), make_record(seed=1)
    new_run(tmp_path, first).write_cell(first, make_items())
    run = new_run(tmp_path, second)
    assert run.records() == []
    run = new_run(tmp_path, second, first)
    assert run.records() == [first]
    assert [cell.seed for cell in missing(run)] == [1]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a run"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.yaml").write_text("name: [")
    with pytest.raises(StoreError, match="cannot be read"):
        RunFolder.open(tmp_path)
    record = make_record()
    run = new_run(tmp_path, record)
    run.write_cell(record.model_copy(update={"schema_version": 99}), [])
    with pytest.raises(StoreError, match="update the harness"):
        run.records()
    with pytest.raises(StoreError, match="is not a valid Record"):
        read_json(tmp_path / "cells" / record.cell / "DONE", Record)


def test_two_writers_of_one_run(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with run.lock(), pytest.raises(StoreError, match="Another process"), RunFolder.open(tmp_path).lock():
        pass
    with run.lock():
        pass


def test_stage_is_whole_or_absent(tmp_path: Path) -> None:
    stages = Stages(tmp_path)

    def fail_half_way() -> None:
        with stages.create("expert", "abc") as folder:
            (folder / "weights").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert stages.find("expert", "abc") is None
    assert list((tmp_path / "expert").iterdir()) == []
    with stages.create("expert", "abc", meta={"tokens": 3}) as folder:
        assert stages.find("expert", "abc") is None
        (folder / "weights").write_text("whole")
    found = stages.find("expert", "abc")
    assert found == stages.path("expert", "abc")
    assert (found / "weights").read_text() == "whole"
    assert stages.meta("expert", "abc") == {"tokens": 3}
    with pytest.raises(KeyError):
        stages.meta("expert", "other")
    with pytest.raises(ValueError, match="not a name"):
        stages.path("expert", "../up")


def test_the_first_to_finish_is_kept(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    with stages.create("expert", "k") as slow:
        (slow / "who").write_text("slow")
        with stages.create("expert", "k") as quick:
            (quick / "who").write_text("quick")
    assert (stages.path("expert", "k") / "who").read_text() == "quick"
    assert [path.name for path in (tmp_path / "expert").iterdir()] == ["k"]


def _race(root: str, barrier: object, number: int) -> None:
    stages = Stages(Path(root))
    for round_ in range(20):
        with stages.create("expert", f"k{round_}") as folder:
            (folder / "who").write_text(str(number))
            (folder / "also").write_text(str(number))
            barrier.wait()  # type: ignore[attr-defined]


def test_simultaneous_processes_both_end_well(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_race, args=(str(tmp_path), barrier, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    folders = sorted((tmp_path / "expert").iterdir())
    assert len(folders) == 20
    for folder in folders:
        assert is_finished(folder)
        assert (folder / "who").read_text() == (folder / "also").read_text()


def _die_inside(target: str) -> None:
    import os

    with atomic_folder(Path(target)) as folder:
        (folder / "part").write_text("x")
        os._exit(9)


def test_leftovers_of_a_killed_process_are_cleaned_up(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die_inside, args=(str(tmp_path / "k"),))
    process.start()
    process.join(60)
    assert [path.name.startswith(".staging-k.") for path in tmp_path.iterdir()] == [True]
    with atomic_folder(tmp_path / "k") as folder:
        (folder / "part").write_text("y")
    assert [path.name for path in tmp_path.iterdir()] == ["k"]
    assert json.loads((tmp_path / "k" / "DONE").read_text())["sha256"].keys() == {"part"}


def test_write_json_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    write_json(path, make_record())
    write_json(path, make_record(seed=3))
    assert read_json(path, Record) == make_record(seed=3)
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]
