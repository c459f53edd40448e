"""Run folders: where a run may start, what a plan may be, and everything that is said about what is stored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from results.ground.files import write_json
from results.schema import Metric, Record
from results.store import RunFolder, StoreError, dump_items, load_items, read_plan
from tests.results.test_store import make_items, make_record, new_run


def said(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        RunFolder.find(path)
    return str(caught.value)


def stored(folder: Path, record: Record | None = None, items: int = 2) -> RunFolder:
    record = record or make_record()
    run = new_run(folder, record)
    run.write_cell(record, make_items(items))
    return run


def test_a_run_may_start_where_nothing_is(tmp_path: Path) -> None:
    assert RunFolder.find(tmp_path) is None
    assert RunFolder.find(tmp_path / "new" / "er") is None
    assert list(tmp_path.iterdir()) == []
    for name in (".lock", ".lock.owner", ".staging-run.yaml.a.b.1.2.x"):
        (tmp_path / name).write_text("")
    assert RunFolder.find(tmp_path) is None
    (tmp_path / "cells").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert RunFolder.find(tmp_path) is None


def test_a_run_is_found_where_one_is(tmp_path: Path) -> None:
    run = stored(tmp_path)
    found = RunFolder.find(tmp_path)
    assert found is not None
    assert (found.path, found.info) == (tmp_path, run.info)


def test_a_run_starts_in_no_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert said(tmp_path) == f"{tmp_path} holds something that is no run: give an empty or new folder."
    file = tmp_path / "notes.txt"
    assert said(file / "run") == f"{file / 'run'} cannot be made ({file} is a file): choose another --output."
    assert said(file) == f"{file} cannot be made ({file} is a file): choose another --output."


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        RunFolder.open(tmp_path)
    assert str(caught.value) == f"{tmp_path} is not a run: give a folder that `harness run` wrote."


AGAIN = "remove it and run the command that made it again, which keeps the cells."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a", f"cannot be read; {AGAIN}"),
        ("name: 1", f"cannot be read; {AGAIN}"),
        ("a: 1\na: 2", f"cannot be read: it has the key 'a' twice (line 2); {AGAIN}"),
        ("schema_version: 0", f"has version 0, which there never was; {AGAIN}"),
        ("schema_version: true", f"has version True, which there never was; {AGAIN}"),
        ("schema_version: one", f"has version 'one', which there never was; {AGAIN}"),
        ("schema_version: 99", "has version 99, newer than 3; update the harness to read it."),
        ("schema_version: 3", f"is cut off; {AGAIN}"),
    ],
)
def test_a_plan_that_cannot_be_read_says_why(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(StoreError) as caught:
        read_plan(tmp_path / "run.yaml")
    assert str(caught.value) == f"{tmp_path / 'run.yaml'} {says}"


def test_a_plan_ends_with_the_digest_of_what_is_above(tmp_path: Path) -> None:
    run = stored(tmp_path)
    lines = (tmp_path / "run.yaml").read_bytes().splitlines()
    assert lines[-1].startswith(b"# sha256 of the lines above: ")
    assert lines[0].startswith(b"schema_version: ") or b"schema_version: 3" in lines
    assert run.verify() == []
    (tmp_path / "run.yaml").write_bytes(b"\n".join(lines[:-1]).replace(b"version: 3", b"version: 2") + b"\n")
    assert RunFolder.open(tmp_path).verify() == []  # earlier versions do not say


def test_reports_have_a_folder_once_they_are_asked_for(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells", "run.yaml"]
    assert run.reports == run.reports == tmp_path / "reports"
    assert run.reports.is_dir()


def test_a_cell_is_of_its_name(tmp_path: Path) -> None:
    run = stored(tmp_path)
    (record,) = run.records()
    (tmp_path / "cells" / record.cell).rename(tmp_path / "cells" / "other")
    assert run.record(record.cell) is None
    with pytest.raises(StoreError) as caught:
        run.record("other")
    assert str(caught.value) == (
        f"{tmp_path / 'cells' / 'other' / 'record.json'} is of another cell, {record.cell}; "
        "remove its folder and run again."
    )


@pytest.mark.parametrize(
    ("version", "mend"), [(99, "update the harness to read it"), (0, "run it again with --replace")]
)
def test_a_record_of_another_schema_says_what_to_do(version: int, mend: str, tmp_path: Path) -> None:
    record = make_record()
    run = stored(tmp_path, record.model_copy(update={"schema_version": version}))
    with pytest.raises(StoreError) as caught:
        run.record(record.cell)
    file = tmp_path / "cells" / record.cell / "record.json"
    assert str(caught.value) == f"{file} has schema {version}, and this harness reads {record.schema_version}; {mend}."


def test_finished_is_done_and_sound_and_tried_is_sound(tmp_path: Path) -> None:
    done, failed = make_record(), make_record(seed=1, status="failed")
    run = new_run(tmp_path, done, failed)
    assert not run.tried(done.cell)
    run.write_cell(done, make_items())
    run.write_cell(failed, [])
    assert (run.finished(done.cell), run.tried(done.cell)) == (True, True)
    assert (run.finished(failed.cell), run.tried(failed.cell)) == (False, True)
    items = tmp_path / "cells" / done.cell / "items.jsonl.gz"
    items.write_bytes(items.read_bytes()[:-1] + b"x")
    assert (run.finished(done.cell), run.tried(done.cell)) == (False, False)


def test_each_planned_cell_counts_once(tmp_path: Path) -> None:
    failed, done = make_record(status="failed"), make_record(seed=1)
    run = new_run(tmp_path, failed, done, failed)
    run.write_cell(failed, [])
    assert run.failed() == 1
    assert [record.cell for record in run.records()] == [failed.cell]
    run.write_cell(failed.model_copy(update={"schema_version": 99}), [])
    assert run.failed() == 0  # whatever it says cannot be read


def test_items_that_cannot_be_read_say_where(tmp_path: Path) -> None:
    run = stored(tmp_path)
    (record,) = run.records()
    path = run.cell_folder(record.cell) / "items.jsonl.gz"
    for data in (b"", b"no gzip", gzip.compress(b"{}"), dump_items(make_items())[:-9]):
        path.write_bytes(data)
        with pytest.raises(StoreError) as caught:
            run.items(record.cell)
        assert str(caught.value) == f"{path} is missing or damaged; remove its folder and run again."
    path.unlink()
    with pytest.raises(StoreError, match="is missing or damaged"):
        run.items(record.cell)


def test_items_are_lines_of_json_as_they_are(tmp_path: Path) -> None:
    items = [make_items()[0].model_copy(update={"prompt": "é\u2028 and\nlines"})]
    assert dump_items(items)[3:8] == bytes(5)  # neither a name nor a time stands in the header
    lines = gzip.decompress(dump_items(items)).decode()
    assert lines.count("\n") == 1
    assert lines.endswith("}\n")
    assert "é\u2028" in lines
    assert '":"' in lines
    assert load_items(dump_items(items)) == items
    assert load_items(dump_items([])) == []
    with pytest.raises(EOFError):
        load_items(b"")


def problems(folder: Path, change: dict[str, Any], items: int = 2) -> list[str]:
    """What `verify` says of one changed record, without the cell's name."""
    record = make_record()
    run = new_run(folder, record)
    run.write_cell(record.model_copy(update=change), make_items(items))
    name = f"{record.cell} (mixer on sst2): "
    found = run.verify()
    assert all(one.startswith(name) for one in found)
    return [one.removeprefix(name) for one in found]


@pytest.mark.parametrize(
    ("change", "items", "says"),
    [
        ({}, 2, []),
        ({}, 3, ["the number of stored items is not 2.", "acc"]),
        ({"primary": "f1"}, 2, ["its record lacks its first metric, f1."]),
        ({"primary": "f1", "n_unscored": 2}, 2, []),
        ({"metrics": {"acc": Metric(value=0.4, n=2)}}, 2, ["acc"]),
        ({"metrics": {"acc": Metric(value=0.5 + 1e-12, n=2)}}, 2, []),
        ({"metrics": {"acc": Metric(value=0.5, n=2), "judge": Metric(value=0.9, n=2)}, "primary": "judge"}, 2, []),
        ({"status": "failed", "error": "It broke."}, 0, ["it failed: It broke."]),
        ({"status": "refused"}, 0, []),
    ],
)
def test_what_does_not_fit_together_is_named(
    change: dict[str, Any], items: int, says: list[str], tmp_path: Path
) -> None:
    mean = "acc is not the mean of its items; score them again with `harness rescore`."
    assert problems(tmp_path, change, items) == [mean if one == "acc" else one for one in says]


def test_a_cell_of_another_specification_is_named(tmp_path: Path) -> None:
    other = make_record(method="mole").spec
    assert problems(tmp_path, {"spec": other}) == [
        "its name is not the hash of its specification.",
        "run.yaml names it otherwise than its record.",
    ]


def test_a_seed_of_another_name_is_named(tmp_path: Path) -> None:
    record = make_record()
    run = stored(tmp_path, record)
    run.info.cells[0] = run.info.cells[0].model_copy(update={"seed": 5})
    assert run.verify() == [f"{record.cell} (mixer on sst2): run.yaml names it otherwise than its record."]


def test_what_is_missing_cut_off_or_unreadable_is_named_for_each_cell(tmp_path: Path) -> None:
    records = [make_record(seed=seed) for seed in range(4)]
    run = new_run(tmp_path, *records, records[0])
    for record in records[1:]:
        run.write_cell(record, make_items())
    folders = [run.cell_folder(record.cell) for record in records]
    (folders[2] / "items.jsonl.gz").unlink()
    write_json(folders[3] / "record.json", {})
    run.write_cell(records[1].model_copy(update={"schema_version": 99}), [])
    names = [f"{record.cell} (mixer on sst2)" for record in records]
    found = run.verify()
    (newer,) = [one for one in found if one.startswith(names[1])]
    assert newer.startswith(f"{names[1]}: {folders[1] / 'record.json'} has schema 99, ")
    assert found[0] == f"{names[0]} is not finished."
    assert f"{names[2]}: items.jsonl.gz is not the file that was written." in found
    assert f"{names[3]}: record.json is not the file that was written." in found
    assert len([one for one in found if one.startswith(names[0])]) == 1


def test_who_writes_is_said(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with run.lock():
        with pytest.raises(StoreError) as caught, run.joined():
            pass
        assert str(caught.value).startswith(f"Another process is writing to {tmp_path} (process ")
        assert str(caught.value).endswith("); wait for it or choose another --output.")
    with run.joined(), run.joined(), pytest.raises(StoreError, match="Another process"), run.lock():
        pass


def test_leftovers_of_cells_and_plans_are_swept(tmp_path: Path) -> None:
    import os

    run = stored(tmp_path)
    for folder in (tmp_path, tmp_path / "cells"):
        (folder / ".staging-x").write_text("")
        os.utime(folder / ".staging-x", (0, 0))
    run.sweep()
    assert not list(tmp_path.rglob(".staging-x"))
    assert run.verify() == []


def test_a_plan_is_readable_text_in_its_own_order(tmp_path: Path) -> None:
    run = new_run(tmp_path / "é", make_record())
    text = (tmp_path / "é" / "run.yaml").read_text()
    assert "name: é" in text
    assert list(json.loads(run.info.model_dump_json())) == [
        line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()
    ]
    assert max(map(len, text.splitlines())) <= 110 + 10
