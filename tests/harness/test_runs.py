"""A run is a value: what may change its folder, how plans are joined, and what is asked before anything runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.cli import main
from harness.engine import Engine
from results.store import RunFolder

pytestmark = [pytest.mark.assets, pytest.mark.model]

TINY = ["--preset", "smoke", "--set", "experts.names=[sst2,mrpc,arc]", "--limit", "4"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished run of two methods on one task, `run`, with its stages beside it."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(folder / "stages"))
        assert call("run", "--methods", "base,mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                    "--output", str(folder / "run")) == 0  # fmt: skip
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to be changed."""
    import shutil

    monkeypatch.setenv("HARNESS_STAGES", str(home / "stages"))
    shutil.copytree(home / "run", tmp_path / "run")
    return tmp_path / "run"


def call(*arguments: str) -> int:
    """Exit code of a command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def planned(folder: Path) -> list[tuple[str, str]]:
    """Methods and tasks of a run's plan."""
    return [(cell.method, cell.task) for cell in RunFolder.open(folder).info.cells]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cuda:7"], ["cuda:7"]),
        (["--set", "experts.rnk=8"], ["experts.rnk"]),
        (["--methods", "mixr"], ["mixr", "mixer"]),
        (["--executor", "cloud"], ["cloud"]),
        (["--limit", "3"], ["eval.limit", "4", "3", "--replace"]),
        (["--min-isolation", "hope", "--tasks", "humaneval"], ["hope", "bubblewrap"]),
    ],
)
def test_a_refused_command_changes_no_byte(
    run: Path, tiny_model: Path, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(run)
    base = ["--methods", "base", "--tasks", "sst2", *TINY, "--model", str(tiny_model), "--output", str(run)]
    assert call("run", *base, *arguments) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert content(run) == before


def test_a_second_process_changes_no_byte(run: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run)
    arguments = ["--methods", "uniform", "--tasks", "sst2", *TINY, "--model", str(tiny_model), "--output", str(run)]
    with RunFolder.open(run).lock():
        assert call("run", *arguments) == 2
    assert "Another process is writing" in capsys.readouterr().err
    assert content(run) == before


def test_a_foreign_folder_or_file_takes_no_run(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    for place in (tmp_path / "notes", tmp_path / "notes" / "a.txt"):
        assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, "--output", str(place)) == 2
        assert str(place) in capsys.readouterr().err
    assert content(tmp_path / "notes") == {"a.txt": b"mine"}


def test_running_into_a_run_extends_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--into", str(run), "--methods", "uniform") == 0
    assert planned(run) == [("base", "sst2"), ("mixer", "sst2"), ("uniform", "sst2")]
    table = capsys.readouterr().out
    assert all(name in table for name in ("base", "mixer", "uniform"))
    info = RunFolder.open(run).info
    assert [variant.config["methods"] for variant in info.variants] == [["base", "mixer"], ["uniform"]]
    assert [command.arguments[0] for command in info.commands] == ["run", "run"]
    assert call("run", "--into", str(run), "--tasks", "mrpc") == 0
    assert planned(run)[3:] == [("base", "mrpc"), ("mixer", "mrpc"), ("uniform", "mrpc")]
    assert call("verify", str(run)) == 0


def test_the_same_command_again_plans_nothing_new(run: Path, tiny_model: Path) -> None:
    before = RunFolder.open(run).info
    records = content(run / "cells")
    assert call("run", "--methods", "base,mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                "--output", str(run)) == 0  # fmt: skip
    after = RunFolder.open(run).info
    assert (after.cells, after.variants, len(after.commands)) == (before.cells, before.variants, 2)
    assert content(run / "cells") == records


def test_replace_starts_anew(run: Path, tiny_model: Path) -> None:
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, "--limit", "3", "--model", str(tiny_model),
                "--output", str(run), "--replace") == 0  # fmt: skip
    info = RunFolder.open(run).info
    assert [cell.method for cell in info.cells] == ["base"]
    assert {path.name for path in (run / "cells").iterdir()} == {info.cells[0].cell}


def test_a_run_is_a_preset(run: Path, tmp_path: Path) -> None:
    assert call("run", "--preset", str(run / "run.yaml"), "--output", str(tmp_path / "again")) == 0
    assert planned(tmp_path / "again") == planned(run)
    cells = [RunFolder.open(folder).info.cells for folder in (run, tmp_path / "again")]
    assert cells[0] == cells[1]


@pytest.fixture(scope="module")
def ablation(home: Path, tiny_model: Path) -> Path:
    """A finished ablation: several configurations with a label each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(home / "stages"))
        assert call("ablate", "rank", *TINY[:2], "--methods", "mixer", "--tasks", "sst2", "--limit", "4",
                    "--experts", "sst2,mrpc,arc,gsm8k", "--model", str(tiny_model), "--set", "experts.tokens=300",
                    "--set", "routers.tokens=200", "--output", str(home / "ablation")) == 0  # fmt: skip
    return home / "ablation"


def test_rescoring_keeps_every_cell_and_label(
    ablation: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(home / "stages"))
    before = RunFolder.open(ablation).info
    assert len({cell.variant for cell in before.cells}) == len(before.variants) > 1
    assert call("rescore", str(ablation), "--task", "sst2") == 0
    after = RunFolder.open(ablation).info
    assert after.cells == before.cells
    assert after.variants == before.variants
    assert call("report", str(ablation), "--table", "rank", "--format", "csv") == 0


def test_rescoring_refuses_what_changes_more_than_scores(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run)
    assert call("rescore", str(run), "--task", "sst2", "--set", "eval.limit=2") == 2
    assert "harness run" in capsys.readouterr().err
    assert content(run) == before


def test_export_asks_which_variant_is_meant(
    ablation: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(home / "stages"))
    label = RunFolder.open(ablation).info.variants[-1].label
    assert call("export", str(ablation), "--method", "mixer", "--output", str(tmp_path / "x")) == 2
    assert label in capsys.readouterr().err
    arguments = ["export", str(ablation), "--method", "mixer", "--variant", label, "--output", str(tmp_path / "x")]
    assert call(*arguments) == 0
    assert "harness.load" in capsys.readouterr().out


def test_a_plan_writes_nothing_anywhere(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm_path: Path
) -> None:
    import harness.models

    def forbidden(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a plan writes nothing")

    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    monkeypatch.setattr(harness.models, "write_json", forbidden)
    (tiny_model / "config.json").touch()  # its hash is not known any more
    assert call("run", "--methods", "base,mixer", "--tasks", "sst2,humaneval", *TINY, "--model", str(tiny_model),
                "--output", str(tmp_path / "run"), "--plan") == 0  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_plan_starts_no_sandbox(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.sandbox import levels

    def forbidden(_name: str) -> None:
        raise AssertionError("a plan starts no sandbox")

    monkeypatch.setattr(levels, "probe", forbidden)
    assert call("run", "--methods", "base", "--tasks", "humaneval", *TINY, "--model", str(tiny_model),
                "--output", str(tmp_path / "run"), "--plan") == 0  # fmt: skip


def test_without_its_assets_a_plan_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    assert call("run", "--preset", "smoke", "--plan") == 2
    assert "harness fetch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_how_to_go_on_and_leaves_nothing_behind(
    number: signal.Signals, code: int, tiny_model: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"HARNESS_STAGES": str(tmp_path / "stages"), "TMPDIR": str(scratch)}
    arguments = ["run", "--methods", "uniform", "--tasks", "sst2", *TINY, "--model", str(tiny_model)]
    line = [sys.executable, "-m", "harness", *arguments, "--output", str(tmp_path / "run")]
    with subprocess.Popen(
        line, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
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


def test_runs_of_several_machines_become_one(
    run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert call("run", "--methods", "mixer,uniform", "--tasks", "sst2,mrpc", *TINY, "--model", str(tiny_model),
                "--output", str(other)) == 0  # fmt: skip
    assert call("merge", str(run), str(other), "--output", str(tmp_path / "whole")) == 0
    whole = RunFolder.open(tmp_path / "whole")
    assert set(planned(tmp_path / "whole")) == {*planned(run), *planned(other)}
    assert len(whole.records()) == 5
    assert whole.verify() == []
    for folder in (run, other):
        for record in RunFolder.open(folder).records():
            assert whole.record(record.cell) is not None
    assert call("merge", str(run), str(other), "--output", str(tmp_path / "whole")) == 2
    capsys.readouterr()
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, "--limit", "2", "--model", str(tiny_model),
                "--output", str(tmp_path / "less")) == 0  # fmt: skip
    assert call("merge", str(run), str(tmp_path / "less"), "--output", str(tmp_path / "mixed")) == 2
    assert "other settings" in capsys.readouterr().err
    assert not (tmp_path / "mixed").exists()


def test_runs_are_compared_with_each_other(
    run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--tasks", "sst2", *TINY, "--model", str(tiny_model), "--output", str(tmp_path / "other")]
    assert call("run", "--methods", "uniform", *base) == 0
    capsys.readouterr()
    assert call("compare", str(run), str(tmp_path / "other"), "--methods", "mixer,uniform") == 0
    assert "mixer − uniform" in capsys.readouterr().out
    assert call("run", "--methods", "mixer", *base, "--set", "routers.tokens=150", "--replace") == 0
    capsys.readouterr()
    assert call("compare", str(run), str(tmp_path / "other"), "--methods", "mixer (run),mixer (other)") == 0
    assert "mixer (run) − mixer (other)" in capsys.readouterr().out


def test_a_run_of_an_older_version_is_read(run: Path) -> None:
    stored = yaml.safe_load((run / "run.yaml").read_text())
    old = {
        "schema_version": 1,
        "name": stored["name"],
        "started": "2026-01-01T00:00:00+00:00",
        "arguments": ["run"],
        "config": stored["variants"][0]["config"],
        "cells": [
            {key: cell[key] for key in ("cell", "method", "task", "seed", "variant")} for cell in stored["cells"]
        ],
    }
    (run / "run.yaml").write_text(yaml.safe_dump(old))
    info = RunFolder.open(run).info
    assert info.started == "2026-01-01T00:00:00+00:00"
    assert [variant.config for variant in info.variants] == [old["config"]]
    assert call("rescore", str(run), "--task", "sst2") == 0
    (run / "run.yaml").write_text(json.dumps({"schema_version": 99}))
    assert call("report", str(run)) == 2


def test_stages_are_pruned_by_age_run_and_size(
    run: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from results.pruning import chosen, entries, stages_of
    from results.stages import Stages

    shutil.copytree(home / "stages", tmp_path / "stages")
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    found = entries(Stages(tmp_path / "stages"))
    needed = stages_of(run)
    assert needed <= {entry.name for entry in found}
    assert {name.split("/")[0] for name in needed} == {"expert", "composed", "outputs"}
    assert {entry.name for entry in chosen(found, of=needed)} == needed
    assert not {entry.name for entry in chosen(found, keep=needed)} & needed
    newest = found[-1].modified
    assert chosen(found, older_than=60, now=newest + 61) == found
    assert chosen(found, older_than=60, now=newest) == [one for one in found if newest - one.modified > 60]
    assert chosen(found, max_bytes=sum(one.bytes for one in found[1:])) == found[:1]
    assert call("clean", "--run", str(run)) == 0
    assert len(entries(Stages(tmp_path / "stages"))) == len(found)
    assert call("clean", "--run", str(run), "--delete") == 0
    assert len(entries(Stages(tmp_path / "stages"))) == len(found) - len(needed)
    assert call("clean", "--older-than", "soon") == 2


def test_one_declaration_serves_python_presets_and_the_command_line(harness: Callable[..., object]) -> None:
    from harness.planning.config import RunConfig, dotted_keys
    from harness.planning.options import ExecutionOptions, RunOptions, declared

    known = set(dotted_keys(RunConfig))
    for name, _, option in declared(RunOptions):
        assert set(option.keys) <= known, name
    from harness.cli import app

    commands = {command.callback.__name__: command.callback for command in app.registered_commands}  # type: ignore[union-attr]
    for name in ("run", "reproduce", "ablate"):
        taken = set(commands[name].__annotations__)
        assert {option for group in (RunOptions, ExecutionOptions) for option, _, _ in declared(group)} <= taken
