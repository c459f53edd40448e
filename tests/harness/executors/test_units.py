"""Single units in one process, in whatever order they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engine import Engine
from harness.executors.units import DONE, FAILED, STOPPED, WAITS, Units
from harness.planning.graph import SCORE
from harness.planning.options import configuration
from harness.planning.variants import Variant
from harness.runs import Run
from results.ground.damage import PlaceError
from results.stages import COMPOSED, EXPERT, OUTPUTS
from results.store import RunFolder

pytestmark = [pytest.mark.assets, pytest.mark.model]


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    asked = {"methods": ["uniform", "mixer"], "tasks": ["sst2", "mrpc"], "experts": ["sst2", "mrpc", "arc"], "limit": 2}
    made = Run.start([Variant(configuration("smoke", {**asked, "model": str(tiny_model)}))], tmp_path / "run")  # type: ignore[typeddict-item]
    RunFolder.create(tmp_path / "run", made.info)
    return made


def test_a_model_stays_installed_for_the_units_that_are_evaluated_on_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    genuine = Engine.composed
    monkeypatch.setattr(
        Engine, "composed", lambda self, cell, shown: installed.append(cell.spec.method) or genuine(self, cell, shown)
    )
    units = Units(run.engines)
    todo = sorted(run.units(), key=lambda unit: (unit.kind == SCORE, unit.label.startswith("uniform")))
    assert [units.compute(unit.kind, unit.key, unit.needs).state for unit in todo] == [DONE] * len(todo)
    assert installed == ["mixer", "uniform"]
    units.release()
    assert {record.status for record in RunFolder.open(run.path).records()} == {"done"}
    # Nothing is computed twice.
    assert [units.compute(*unit.name).state for unit in todo if unit.kind != SCORE] == [DONE] * (len(todo) - 4)
    assert installed == ["mixer", "uniform"]


def test_what_another_process_computes_is_left_to_it(run: Run) -> None:
    units = Units(run.engines)
    cell = run.plans[0].cells[-1]
    for kind, key in ((EXPERT, cell.pool[0].key), (COMPOSED, cell.compose_key), (OUTPUTS, cell.outputs_key)):
        with run.stages.claim(kind, key):
            outcome = units.compute(kind, key)
        assert outcome.state == WAITS
        assert outcome.text.endswith("computes it")
        assert run.stages.find(kind, key) is None


def test_a_failure_is_a_reason_and_a_full_disk_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    units = Units(run.engines)
    cell = run.plans[0].cells[0]
    # Its experts are not there.
    outcome = units.compute(OUTPUTS, cell.outputs_key)
    assert (outcome.state, outcome.text) == (FAILED, f"RuntimeError: the expert {cell.pool[0].name} is not stored")
    assert units.compute(SCORE, cell.key, why=outcome.text).state == DONE
    record = run.folder.record(cell.key)
    assert record is not None
    assert (record.status, record.error) == ("failed", outcome.text)

    def full(*_: object) -> None:
        raise PlaceError("No space is left.")

    monkeypatch.setattr(Engine, "_train_expert", full)
    assert units.compute(EXPERT, cell.pool[0].key)[:2] == (STOPPED, "No space is left.")


def test_a_stage_of_another_machine_that_is_never_seen_is_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.units.VISIBLE", 0.0)
    cell = run.plans[0].cells[0]
    outcome = Units(run.engines).compute(OUTPUTS, cell.outputs_key, [(EXPERT, cell.pool[0].key)])
    assert outcome.state == FAILED
    assert "was written by another machine and is not seen on this one" in outcome.text
