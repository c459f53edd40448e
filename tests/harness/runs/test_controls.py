"""Controls of a run: which rows there are, what is fitted for them, and what is left as it was."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Engine
from harness.planning.config import resolve
from harness.planning.controls import left_out
from harness.planning.plan import Plan
from harness.planning.sources import open_source
from results.controls import CONTROLS
from results.ground.errors import HarnessError
from results.store import RunFolder
from tests.harness.runs.command import call

pytestmark = [pytest.mark.assets, pytest.mark.model]


SMALL = ["--preset", "smoke", "--set", "experts.names=[sst2,mrpc,gsm8k]", "--limit", "4"]


def plan(model: Path, methods: str, controls: str = "", **more: Any) -> Plan:
    overrides: dict[str, Any] = {
        "methods": methods.split(","), "tasks": ["sst2"], "model": {"name": str(model)},
        "controls": [name for name in controls.split(",") if name], **more,
    }  # fmt: skip
    return Plan(resolve("smoke", overrides), open_source("bundled"))


def rows(found: Plan) -> list[str]:
    return [method.display for method in found.methods]


def test_each_adaptive_method_gets_its_rows_and_the_others_a_reason(tiny_model: Path) -> None:
    found = plan(tiny_model, "base,ties,mixer,lorahub,mixlora", ",".join(CONTROLS))
    assert rows(found) == [
        "base", "ties",
        "mixer", "mixer · random experts", "mixer · shuffled router",
        "lorahub", "lorahub · random experts",
        "mixlora", "mixlora · shuffled router",
        "lora-router-data",
    ]  # fmt: skip
    said = left_out(found.methods, found.config)
    assert said == [
        "No base · random experts: it takes no expert of the pool.",
        "No ties · random experts: nothing of it is fitted or routed, so that it adapts to no expert.",
        "No mixlora · random experts: it takes no expert of the pool.",
        "No base · shuffled router: no router of it chooses weights by what it reads.",
        "No ties · shuffled router: no router of it chooses weights by what it reads.",
        "No lorahub · shuffled router: no router of it chooses weights by what it reads.",
    ]
    static = plan(tiny_model, "base,ties", "lora-router-data")
    assert rows(static) == ["base", "ties"]
    assert left_out(static.methods, static.config) == [
        "No lora-router-data: no method that composes the pool is fitted on any rows."
    ]


def test_the_keys_of_a_methods_own_cells_do_not_move(tiny_model: Path) -> None:
    methods = "base,mixer,lorahub,lora-router-data"
    before = {cell.spec.method: cell for cell in plan(tiny_model, methods).cells}
    after = {cell.spec.method: cell for cell in plan(tiny_model, methods, "random-experts,shuffled-router").cells}
    for method, cell in before.items():
        other = after[method]
        assert (cell.key, cell.compose_key, cell.outputs_key) == (other.key, other.compose_key, other.outputs_key)
    shuffled, drawn, own = (after[f"mixer{label}"] for label in (" · shuffled router", " · random experts", ""))
    assert shuffled.compose_key == own.compose_key != drawn.compose_key
    assert len({one.outputs_key for one in (shuffled, drawn, own)}) == 3
    assert len({one.key for one in (shuffled, drawn, own)}) == 3
    added = plan(tiny_model, "mixer", "lora-router-data").cells[-1]
    assert added.key == before["lora-router-data"].key


def test_an_unknown_control_is_named_with_the_nearest(tiny_model: Path) -> None:
    with pytest.raises(HarnessError, match="Unknown control 'random-expert': did you mean random-experts"):
        plan(tiny_model, "mixer", "random-expert")


def test_a_run_with_controls_fits_each_method_once_more_at_most(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    fits: Counter[str] = Counter()
    fitted = Engine._fitted

    def counted(self: Engine, cell: Any, *given: Any) -> Any:
        fits[cell.spec.method] += 1
        return fitted(self, cell, *given)

    monkeypatch.setattr(Engine, "_fitted", counted)
    run = tmp_path / "run"
    line = ["--model", str(tiny_model), "--methods", "base,mixer,retrieval", "--tasks", "sst2,gsm8k", *SMALL,
            "--output", str(run)]  # fmt: skip
    assert call("run", *line, "--controls", "random-experts,shuffled-router", "--plan") == 0
    assert "No base · random experts: it takes no expert of the pool." in capsys.readouterr().out
    assert not run.exists()
    assert call("run", *line) == 0
    plain = {cell.cell for cell in RunFolder.open(run).info.cells}
    assert fits == {"mixer": 1, "retrieval": 1}
    assert call("run", *line, "--controls", "random-experts,shuffled-router") == 0
    assert fits == {
        "mixer": 1, "retrieval": 1, "mixer · random experts": 1, "retrieval · random experts": 1,
    }  # fmt: skip
    printed = " ".join(capsys.readouterr().out.split())
    assert "mixer is not shown to beat shuffled router on the mean over tasks: " in printed
    folder = RunFolder.open(run)
    assert plain < {cell.cell for cell in folder.info.cells}
    records = {(r.spec.method, r.spec.task): r for r in folder.records()}
    assert {record.status for record in records.values()} == {"done"}
    for method in ("mixer", "retrieval"):
        changed = [
            _outputs(folder, records[method, task].cell) != _outputs(folder, records[f"{method} · {label}", task].cell)
            for task in ("sst2", "gsm8k")
            for label in ("random experts", "shuffled router")
        ]
        assert any(changed), method
    assert call("export", str(run), "--method", "mixer · shuffled router", "--output", str(tmp_path / "out")) == 2


def _outputs(folder: RunFolder, cell: str) -> str:
    return json.dumps([item.outputs for item in folder.items(cell)])
