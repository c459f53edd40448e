"""How a run takes in more, and how its variants stay apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from harness.runs import Run
from harness.sharing.cards import model_card
from harness.sharing.scrub import Scrubber
from results.schema import RunInfo
from results.store import RunFolder
from tests.harness.runs.command import TINY, call, content, planned

pytestmark = [pytest.mark.assets, pytest.mark.model]


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


def test_settings_of_variants_stay_apart_when_a_run_is_extended(
    ablation: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variant's settings for every method go to new methods that have the key, and to no other variant."""
    import shutil

    monkeypatch.setenv("HARNESS_STAGES", str(home / "stages"))
    shutil.copytree(ablation, tmp_path / "ablation")
    before = RunFolder.open(ablation).info
    assert call("run", "--into", str(tmp_path / "ablation"), "--methods", "base", "--plan") == 0
    assert call("run", "--into", str(tmp_path / "ablation"), "--methods", "base") == 0
    after = RunFolder.open(tmp_path / "ablation").info
    assert after.cells[: len(before.cells)] == before.cells
    labels = [cell.variant for cell in after.cells if cell.method == "base"]
    assert sorted(labels) == sorted(variant.label for variant in before.variants)
    assert call("run", "--into", str(tmp_path / "ablation"), "--tasks", "mrpc", "--plan") == 0
    capsys.readouterr()


def test_extending_a_run_without_configuration_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = yaml.safe_load((run / "run.yaml").read_text())
    (run / "run.yaml").write_text(yaml.safe_dump({**stored, "schema_version": 2, "variants": []}))
    assert call("run", "--into", str(run), "--methods", "uniform") == 2
    assert "keeps no configuration" in capsys.readouterr().err


def test_a_run_is_a_preset(run: Path, tmp_path: Path) -> None:
    assert call("run", "--preset", str(run / "run.yaml"), "--output", str(tmp_path / "again")) == 0
    assert planned(tmp_path / "again") == planned(run)
    cells = [RunFolder.open(folder).info.cells for folder in (run, tmp_path / "again")]
    assert cells[0] == cells[1]


@pytest.mark.parametrize("said", [{"mixer": {"route.eval_k": 2}}, {"*": {"route.eval_k": 2}}])
def test_a_run_whose_configurations_contradict_each_other_is_no_preset(
    run: Path, said: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    stored = yaml.safe_load((run / "run.yaml").read_text())
    other = json.loads(json.dumps(stored["variants"][0]))
    stored["variants"][0]["config"]["method_overrides"] = {key: {"route.eval_k": 1} for key in said}
    other["config"]["method_overrides"] = said
    stored["variants"].append(other)
    RunFolder.open(run).write_plan(RunInfo.model_validate(stored))
    assert call("run", "--preset", str(run / "run.yaml"), "--plan") == 2
    assert "set methods differently" in capsys.readouterr().err


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


def test_what_is_exported_of_a_variant_tells_of_that_one_alone(
    ablation: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(home / "stages"))
    run = Run.open(ablation)
    labels = [variant.label for variant in run.variants]
    assert len(labels) > 1
    for label in labels:
        exported = run.export("mixer", tmp_path / label.replace("/", "-"), variant=label)
        assert exported.cells == {cell.cell for cell in run.folder.info.cells if cell.variant == label}
        card = model_card(exported, run.folder, "me/model", "me/data", "tiny", Scrubber())
        assert card.count("| sst2 | ") == 1
