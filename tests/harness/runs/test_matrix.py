"""`harness matrix`: a run of `lora[expert=NAME]` rows, rendered as experts by tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from tests.harness.runs.command import TINY, call, planned

pytestmark = [pytest.mark.assets, pytest.mark.model]


def test_it_computes_each_expert_alone_on_each_task(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    run = tmp_path / "run"
    line = ["matrix", "--model", str(tiny_model), *TINY[:2], "--experts", "sst2,arc", "--tasks", "sst2,arc-e",
            "--limit", "4", "--output", str(run)]  # fmt: skip
    assert call(*line, "--plan") == 0
    assert not run.exists()
    capsys.readouterr()
    assert call(*line, "--format", "latex,csv") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Each expert alone on each task")
    assert planned(run) == [
        (method, task) for method in ("base", "lora[expert=sst2]", "lora[expert=arc]") for task in ("sst2", "arc-e")
    ]
    names = {path.name for path in (run / "reports").iterdir()}
    assert names == {"matrix.tex", "matrix.csv", "matrix-map.pdf", "matrix-map.png"}
    again = harness.open(run)
    assert len(again.table("matrix").table.panels[0].rows) == 3
    assert [series.name for series in again.plot("matrix-map").figure.axes[0].series] == ["sst2", "arc"]
    for option in ("--methods=mixer", "--controls=random-experts"):
        assert call(*line, option) == 2
        name = option.partition("=")[0]
        assert f"leave {name} out" in capsys.readouterr().err
