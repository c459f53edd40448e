"""What a failure or an interrupt ends, and what it says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Engine
from harness.planning.plan import Cell
from results.store import RunFolder
from tests.harness.runs.command import TINY, call, in_own_process

pytestmark = [pytest.mark.assets, pytest.mark.model]


def test_if_everything_failed_the_reasons_are_printed(
    tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("the cable was cut")

    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setattr(Engine, "_train_expert", broken)
    assert call("run", "--methods", "uniform", "--tasks", "sst2,mrpc", *TINY, "--model", str(tiny_model),
                "--output", str(tmp_path / "run")) == 1  # fmt: skip
    said = capsys.readouterr().err
    assert said.count("failed: uniform on") == 2
    assert "the cable was cut" in said
    assert str(tmp_path / "run" / "failures.log") in said
    assert "Nothing" not in said


def test_one_failing_unit_ends_nothing_else(
    tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from methods.mixer import Mixer

    def broken(*_arguments: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setattr(Mixer, "fit", broken)
    assert call("run", "--methods", "mixer,uniform,base", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                "--output", str(tmp_path / "run")) == 1  # fmt: skip
    captured = capsys.readouterr()
    states = {record.spec.method: record.status for record in RunFolder.open(tmp_path / "run").records()}
    assert states == {"mixer": "failed", "uniform": "done", "base": "done"}
    assert "fit mixer (seed 0): failed after" in captured.err
    assert "fit mixer (seed 0): done" not in captured.err
    assert "uniform" in captured.out


def test_one_failing_evaluation_ends_no_other_of_its_group(
    tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = Engine.evaluate

    def broken(self: Engine, cell: Cell, *arguments: Any) -> None:
        if cell.spec.task == "mrpc":
            raise RuntimeError("not this one")
        genuine(self, cell, *arguments)

    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setattr(Engine, "evaluate", broken)
    assert call("run", "--methods", "uniform", "--tasks", "mrpc,sst2", *TINY, "--model", str(tiny_model),
                "--output", str(tmp_path / "run")) == 1  # fmt: skip
    records = {record.spec.task: record for record in RunFolder.open(tmp_path / "run").records()}
    assert (records["mrpc"].status, records["sst2"].status) == ("failed", "done")
    assert "not this one" in str(records["mrpc"].error)


def test_only_failures_of_this_command_are_reported(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("not today")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "score", broken)
        assert call("run", "--into", str(run), "--methods", "uniform") == 1
    assert "failed: uniform on sst2" in capsys.readouterr().err
    stored = RunFolder.open(run).info.variants[0].config
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, "--model", str(stored["model"]["name"]),
                "--output", str(run)) == 0  # fmt: skip
    assert "failed" not in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_how_to_go_on_and_leaves_nothing_behind(
    number: signal.Signals, code: int, tiny_model: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arguments = ["run", "--methods", "uniform", "--tasks", "sst2", *TINY, "--model", str(tiny_model)]
    line, environment = in_own_process(*arguments, "--output", str(tmp_path / "run"), stages=tmp_path / "stages")
    with subprocess.Popen(
        line, env=environment | {"TMPDIR": str(scratch)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        next(text for text in process.stderr if text.startswith("expert"))
        time.sleep(0.2)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(60) == code, rest
    assert "the same command goes on from there" in rest
    assert "done" not in rest.splitlines()[0]
    assert "Traceback" not in rest
    assert not list(scratch.iterdir())
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def test_what_cannot_be_read_or_scored_fails_its_own_cells(
    tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that was cut since the plan, and a label that no metric takes."""
    import methods.experts
    from tasks.base import BoundTask

    load, score = methods.experts.load_expert, BoundTask.score_all

    def cut(name: str, folder: Path) -> Any:
        if name == "sst2":
            (folder / "adapter_model.safetensors").write_bytes(b"\x10")
        return load(name, folder)

    def without_label(self: BoundTask, docs: Any, outputs: Any) -> Any:
        if self.name == "arc-e":
            raise TypeError("int() argument must not be 'NoneType'")
        return score(self, docs, outputs)

    shutil.copytree(home / "stages" / "expert", tmp_path / "stages" / "expert")
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setattr(methods.experts, "load_expert", cut)
    monkeypatch.setattr(BoundTask, "score_all", without_label)
    assert call("run", "--methods", "lora", "--tasks", "sst2,mrpc,arc-e", *TINY, "--model", str(tiny_model),
                "--output", str(tmp_path / "run")) == 1  # fmt: skip
    records = {record.spec.task: record for record in RunFolder.open(tmp_path / "run").records()}
    assert {task: record.status for task, record in records.items()} == {
        "sst2": "failed", "mrpc": "done", "arc-e": "failed"
    }  # fmt: skip
    assert "adapter" in str(records["sst2"].error)
    assert "NoneType" in str(records["arc-e"].error)
