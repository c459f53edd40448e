"""Several processes compute one run in one folder, and Slurm starts them."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from harness.engine import Engine
from harness.executors import several
from harness.failures import SharedFailures
from harness.interrupts import Ended
from harness.runs import Run
from results.ground.errors import HarnessError
from results.ground.locks import claimed, joined
from results.schema import Record
from results.store import RunFolder, StoreError
from tests.harness.runs.command import TINY, call, content, together

pytestmark = [pytest.mark.assets, pytest.mark.model]


@pytest.fixture
def line(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run of two methods on two tasks in `tmp_path / "run"`, its stages beside it."""
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return ["run", "--methods", "base,uniform", "--tasks", "sst2,mrpc", *TINY, "--model", str(tiny_model),
            "--device", "cpu", "--output", str(tmp_path / "run")]  # fmt: skip


def scores(run: Path) -> list[tuple[str, str, str, float | None]]:
    records: list[Record] = RunFolder.open(run).records()
    return [
        (one.spec.method, one.spec.task, one.status, metric.value if (metric := one.metrics.get(one.primary)) else None)
        for one in records
    ]


def test_who_joins_a_lock_keeps_out_whoever_wants_it_alone_and_no_other(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with joined(lock) as one, joined(lock) as other, claimed(lock) as alone:
        assert (one, other, alone) == (True, True, False)
    with claimed(lock) as alone, joined(lock) as other:
        assert (alone, other) == (True, False)


def test_what_one_process_tried_in_vain_another_reads(tmp_path: Path) -> None:
    one, other = (SharedFailures(tmp_path / "failed") for _ in range(2))
    one["a"] = "no: too small"
    assert (dict(other), "b" in other) == ({"a": "no: too small"}, False)


def test_a_dry_run_writes_plan_and_script_and_says_the_command(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--executor", "slurm", "--workers", "8", "--sbatch", "--partition=gpu --mem 3G", "--dry-run"]
    assert call(*line, *asked) == 0
    script = tmp_path / "run" / "slurm" / "array.sh"
    assert f"Submit the array of 8 with: sbatch {script};" in capsys.readouterr().out
    text = script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "#SBATCH --array=0-7\n" in text
    assert "#SBATCH --partition=gpu --mem 3G\n" in text
    assert "#SBATCH --mem=" not in text  # said already
    assert "gres" not in text  # --device cpu
    assert f"export HARNESS_STAGES={tmp_path / 'stages'}\n" in text
    assert shlex.split(text.splitlines()[-1])[1:] == [
        sys.executable, "-m", "harness", "run", "--into", str(tmp_path / "run"), "--executor", "shared",
    ]  # fmt: skip
    assert len(RunFolder.open(tmp_path / "run").info.cells) == 4


def test_without_slurm_it_says_the_command_and_with_it_submits(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert call(*line, "--executor", "slurm", "--workers", "2") == 0
    assert "There is no sbatch here. Submit" in capsys.readouterr().out
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\necho 4711\n")
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
    assert call(*line, "--executor", "slurm", "--workers", "2") == 0
    assert "as job 4711;" in capsys.readouterr().out
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    assert call(*line, "--executor", "slurm", "--workers", "2") == 2
    assert "sbatch: error: invalid partition; mend it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--executor", "slurm"], "--workers N"),
        (["--executor", "slurm", "--workers", "0"], "from 1 to 1,000"),
        (["--executor", "slurm", "--workers", "2", "--track", "wandb"], "--track"),
        (["--executor", "slurm", "--workers", "2", "--sbatch", "'"], "a quote is open"),
        (["--executor", "slurm", "--workers", "2", "--sbatch", "gpu"], "such as --partition=gpu"),
        (["--workers", "0"], "from 1 to 1,000"),
        (["--workers", "2", "--track", "wandb"], "--track"),
        (["--dry-run"], "leave them out"),
        (["--executor", "shared"], "from --into RUN"),
    ],
)
def test_what_is_missing_is_one_sentence_and_changes_nothing(
    line: list[str], tmp_path: Path, asked: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*line, *asked) == 2
    said = [one for one in capsys.readouterr().err.splitlines() if one.startswith("harness: ")]
    assert len(said) == 1
    assert words in said[0]
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_planned_has_nothing_to_join(line: list[str], tmp_path: Path) -> None:
    assert call("run", "--into", str(tmp_path / "run"), "--executor", "shared") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by fork")
def test_two_processes_on_one_folder_leave_the_table_of_one(line: list[str], tmp_path: Path) -> None:
    assert call(*line, "--executor", "slurm", "--workers", "2", "--dry-run") == 0
    run = tmp_path / "run"
    one = ["run", "--into", str(run), "--executor", "shared"]
    codes, said = together(one, one, folder=tmp_path, stages=tmp_path / "stages")
    assert codes == [0, 0], said
    shared = scores(run)
    assert [status for _, _, status, _ in shared] == ["done"] * 4
    assert RunFolder.open(run).verify() == []
    alone = tmp_path / "alone"
    assert call(*line[:-1], str(alone)) == 0
    assert scores(alone) == shared


def test_workers_of_this_machine_leave_the_table_of_one(line: list[str], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    assert call(*line, "--workers", "2") == 0
    run = tmp_path / "run"
    assert [path.name for path in (run / "processes").iterdir()] == ["2.log"]
    assert RunFolder.open(run).verify() == []
    assert torch.get_num_threads() == threads
    alone = tmp_path / "alone"
    assert call(*line[:-1], str(alone)) == 0
    assert scores(alone) == scores(run)


def test_of_several_processes_each_begins_with_what_has_to_be_fitted(line: list[str], tmp_path: Path) -> None:
    line[line.index("base,uniform")] = "base,uniform,mixer-none"
    assert call(*line, "--executor", "slurm", "--workers", "2", "--dry-run") == 0
    engine = Run.open(tmp_path / "run").engines[0]

    def order() -> list[str]:
        return [cells[0].spec.method for unit in engine.units() if isinstance(cells := unit.args[0], list)]  # type: ignore[attr-defined]

    assert order() == ["base", "uniform", "mixer-none"]
    engine.share()
    assert order() == ["mixer-none", "base", "uniform"]


def test_an_executor_that_is_one_process_takes_no_number_of_workers(line: list[str], tmp_path: Path) -> None:
    assert call(*line, "--executor", "slurm", "--workers", "2", "--dry-run") == 0
    with pytest.raises(HarnessError, match="leave out the number of workers"):
        Run.open(tmp_path / "run").compute("shared", workers=2)


def program(path: Path, does: str) -> str:
    """A program in Python's place."""
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("does", "how"), [("exit 1", "exit code 1"), ("exit 3", "exit code 3"), ("kill -9 $$", "signal 9")]
)
def test_what_a_lost_process_leaves_the_others_do_and_it_is_named(
    line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    does: str,
    how: str,
) -> None:
    monkeypatch.setattr(several.sys, "executable", program(tmp_path / "python", does))
    assert call(*line, "--workers", "2") == 0
    assert f"A process ended with {how}" in capsys.readouterr().err
    assert [status for _, _, status, _ in scores(tmp_path / "run")] == ["done"] * 4


def test_who_is_told_to_end_ends_the_others(line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready, told = tmp_path / "ready", tmp_path / "told"
    does = f"trap 'touch {told}; exit 0' TERM\ntouch {ready}\nwhile :; do sleep 0.05; done"

    def ends(_self: Engine, *_arguments: object) -> None:
        while not ready.exists():
            time.sleep(0.01)
        raise Ended(signal.SIGTERM)

    monkeypatch.setattr(several.sys, "executable", program(tmp_path / "python", does))
    monkeypatch.setattr(Engine, "evaluate", ends)
    assert call(*line, "--workers", "2") == 128 + signal.SIGTERM
    assert told.exists()


def test_processes_that_do_not_fit_are_refused(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20, total=2**30))
    assert call(*line, "--workers", "2") == 2
    assert "ask for fewer --workers" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_while_some_share_a_run_nobody_changes_its_plan(line: list[str], tmp_path: Path) -> None:
    assert call(*line, "--executor", "slurm", "--workers", "2", "--dry-run") == 0
    before = content(tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    with folder.joined(), folder.joined():
        assert call(*line) == 2
    assert content(tmp_path / "run") == before
    with folder.lock(), pytest.raises(StoreError, match="Another process"), folder.joined():
        pass


def test_a_failure_is_tried_once_by_all_and_again_when_submitted_again(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    lock = threading.Lock()

    def fails(_self: Engine, cell: object, *_arguments: object) -> None:
        with lock:
            tries.append(str(getattr(cell, "key", "")))
        raise RuntimeError("a device that is gone")

    submit = [*line, "--executor", "slurm", "--workers", "2", "--dry-run"]
    run = tmp_path / "run"
    assert call(*submit) == 0
    monkeypatch.setattr(Engine, "evaluate", fails)
    assert call("run", "--into", str(run), "--executor", "shared") == 1
    assert len(tries) == 4
    assert {status for _, _, status, _ in scores(run)} == {"failed"}
    Run.open(run).compute("shared")
    assert len(tries) == 4
    monkeypatch.undo()
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    assert call(*submit) == 0
    assert scores(run) == []
    assert call("run", "--into", str(run), "--executor", "shared") == 0
    assert {status for _, _, status, _ in scores(run)} == {"done"}
