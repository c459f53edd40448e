"""What may change a run's folder, and what a plan leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from results.store import RunFolder
from tests.harness.runs.command import TINY, call, content

pytestmark = [pytest.mark.assets, pytest.mark.model]


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


def test_replace_starts_anew(run: Path, tiny_model: Path) -> None:
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, "--limit", "3", "--model", str(tiny_model),
                "--output", str(run), "--replace") == 0  # fmt: skip
    info = RunFolder.open(run).info
    assert [cell.method for cell in info.cells] == ["base"]
    assert {path.name for path in (run / "cells").iterdir()} == {info.cells[0].cell}


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
    assert {cell.model for cell in info.cells} == {old["config"]["model"]["name"]}
    assert call("run", "--into", str(run), "--methods", "base", "--limit", "3") == 2  # contradicts what is stored
    assert call("rescore", str(run), "--task", "sst2") == 0
    (run / "run.yaml").write_text(json.dumps({"schema_version": 99}))
    assert call("report", str(run)) == 2


def test_one_declaration_serves_python_presets_and_the_command_line(harness: Callable[..., object]) -> None:
    from harness.planning.config import dotted_keys
    from harness.planning.options import ExecutionOptions, RunOptions, declared
    from harness.planning.sections import RunConfig

    known = set(dotted_keys(RunConfig))
    for name, _, option in declared(RunOptions):
        assert set(option.keys) <= known, name
    from harness.cli import app

    commands = {command.callback.__name__: command.callback for command in app.registered_commands}  # type: ignore[union-attr]
    for name in ("run", "reproduce", "ablate", "matrix"):
        taken = set(commands[name].__annotations__)
        assert {option for group in (RunOptions, ExecutionOptions) for option, _, _ in declared(group)} <= taken
