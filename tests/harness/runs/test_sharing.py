"""Several processes on one stage store divide the work, and what was damaged or deleted is made again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.engine import Engine
from results.store import RunFolder
from tests.harness.runs.command import TINY, call, together

pytestmark = [pytest.mark.assets, pytest.mark.model]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by fork")
def test_four_processes_compute_every_stage_once(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["run", "--methods", "base,uniform,mixer", "--tasks", "sst2,mrpc", *TINY, "--model", str(tiny_model)]
    lines = [[*arguments, "--output", str(tmp_path / f"run{number}")] for number in range(4)]
    codes, said = together(*lines, folder=tmp_path, stages=tmp_path / "stages")
    assert codes == [0] * 4, said
    done = [text.partition(": done")[0] for text in said.splitlines() if ": done in" in text]
    assert len(done) == len(set(done)), done
    assert len([one for one in done if one.startswith("expert")]) == 3
    assert len([one for one in done if one.startswith("fit")]) == 1
    assert len([one for one in done if " on " in one]) == 6
    tables = []
    for number in range(4):
        run = RunFolder.open(tmp_path / f"run{number}")
        assert run.verify() == []
        tables.append({record.cell: record.metrics for record in run.records()})
    assert len(tables[0]) == 6
    assert all(table == tables[0] for table in tables)


@pytest.fixture
def again(
    home: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[int, Path]]:
    """Runs the command of `home` into a new folder, on a copy of its stages."""
    stages = tmp_path / "stages"
    shutil.copytree(home / "stages", stages)
    monkeypatch.setenv("HARNESS_STAGES", str(stages))

    def run(name: str) -> tuple[int, Path]:
        output = tmp_path / name
        code = call("run", "--methods", "base,mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                    "--output", str(output))  # fmt: skip
        return code, output

    return run


@pytest.mark.parametrize(
    ("kind", "file", "without"),
    [
        ("expert", "adapter_model.safetensors", ("composed", "outputs")),
        ("composed", "composed.safetensors", ("outputs",)),
        ("outputs", "outputs.json", ()),
    ],
)
def test_a_flipped_byte_is_set_aside_and_the_result_is_the_same(
    kind: str, file: str, without: tuple[str, ...], again: Callable[[str], tuple[int, Path]], home: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for other in without:
        shutil.rmtree(tmp_path / "stages" / other)
    mixed = next(cell for cell in RunFolder.open(home / "run").info.cells if cell.method == "mixer")
    name = next(stage for stage in mixed.stages if stage.startswith(f"{kind}/"))
    damaged = tmp_path / "stages" / name / file
    data = bytearray(damaged.read_bytes())
    data[-9] ^= 0x41
    damaged.write_bytes(data)
    code, run = again("again")
    assert code == 0
    assert capsys.readouterr().err.count("is damaged") == 1
    assert {r.cell: r.metrics for r in RunFolder.open(run).records()} == {
        r.cell: r.metrics for r in RunFolder.open(home / "run").records()
    }


def test_costs_that_were_deleted_are_not_known_and_export_makes_the_stages_again(
    again: Callable[[str], tuple[int, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("expert", "composed"):
        shutil.rmtree(tmp_path / "stages" / kind)
    code, run = again("again")
    assert code == 0
    (mixed,) = (r for r in RunFolder.open(run).records() if r.spec.method == "mixer")
    assert mixed.cost.seconds.keys() == {"evaluate", "score"}
    assert "not known here any more" in " ".join(mixed.notes)
    said = capsys.readouterr().out
    assert "not known here any more" in said
    assert call("export", str(run), "--method", "mixer", "--output", str(tmp_path / "out")) == 2
    assert "add --train" in capsys.readouterr().err
    assert call("export", str(run), "--method", "mixer", "--output", str(tmp_path / "out"), "--train") == 0
    assert (tmp_path / "out").is_dir()


def test_a_full_store_ends_the_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = []

    def no_space(*_arguments: object) -> None:
        tried.append(1)
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setattr(Engine, "_train_expert", no_space)
    assert call("run", "--methods", "uniform", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                "--output", str(tmp_path / "run")) == 2  # fmt: skip
    assert len(tried) == 1
    assert "the disk is full: free some space" in capsys.readouterr().err
