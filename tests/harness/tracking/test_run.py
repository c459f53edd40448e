"""`--track` on whole runs of a tiny model: what the engine tells, and a tracker that is away."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.executors.named import Named
from harness.planning.graph import SCORE
from harness.planning.options import configuration
from harness.planning.sections import RunConfig
from harness.planning.variants import Variant
from harness.runs import Run
from harness.tracking.observer import Observer
from results.stages import COMPOSED, EXPERT
from tests.harness.tracking.test_observer import Notebook

pytestmark = [pytest.mark.assets, pytest.mark.model]

SMALL = ["--preset", "smoke", "--tasks", "sst2,arc-e", "--set", "experts.names=[sst2,mrpc,arc]", "--limit", "4"]


def small(model: Path, methods: list[str]) -> RunConfig:
    return configuration(
        "smoke",
        {
            "methods": methods,
            "tasks": ["sst2", "arc-e"],
            "model": str(model),
            "experts": ["sst2", "mrpc", "arc"],
            "limit": 4,
        },
    )


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    return tmp_path / "stages"


def test_the_engine_tells_experts_fits_and_cells_as_they_come(tiny_model: Path, tmp_path: Path, stages: Path) -> None:
    told = Notebook()
    run = Run.start([Variant(small(tiny_model, ["base", "mixer"]))], tmp_path / "run")
    run.compute(observer=Observer(told))
    assert told.names("curve") == [*(f"expert/{name}/seed 0" for name in ("sst2", "mrpc", "arc")), "fit/mixer/seed 0"]
    assert all("loss" in steps[0][1] for what, _, steps in (t for t in told.told if t[0] == "curve"))
    cells = [f"cell/{task}/{method}/seed 0" for method in ("base", "mixer") for task in ("sst2", "arc-e")]
    assert told.names("values") == cells
    # The fit is told before the first cell that needs it, not at the end.
    assert [kind for kind in told.kinds() if kind in ("begin", "table", "end")] == ["begin", "table", "end"]
    order = [entry[1] for entry in told.told if entry[0] in ("curve", "values")]
    assert order.index("fit/mixer/seed 0") < order.index("cell/sst2/mixer/seed 0")

    # A run that is finished is told whole again, though nothing is computed: experts alone are not in its records.
    again = Notebook()
    Run.open(tmp_path / "run").compute(observer=Observer(again))
    assert set(again.names("values")) == set(cells)
    assert again.names("curve") == ["fit/mixer/seed 0"]
    assert again.told[-1] == ("end", "finished")


def test_units_of_another_process_are_told_from_what_they_left(tiny_model: Path, tmp_path: Path, stages: Path) -> None:
    run = Run.start([Variant(small(tiny_model, ["mixer"]))], tmp_path / "run")
    run.compute()
    told = Notebook()
    (engine,) = run.engines
    engine.observe(Observer(told))
    cell = engine.plan.cells[0]
    named = Named([engine])
    units = [(EXPERT, cell.pool[0].key), (COMPOSED, cell.compose_key), *((SCORE, one.key) for one in engine.plan.cells)]
    assert all(named.tell(*unit) for unit in units)
    elsewhere = Run.start([Variant(small(tiny_model, ["mixer"]))], tmp_path / "other")
    assert not Named(elsewhere.engines).tell(*units[-1])
    assert told.names("curve") == ["expert/sst2/seed 0", "fit/mixer/seed 0"]
    assert told.names("values") == ["cell/sst2/mixer/seed 0", "cell/arc-e/mixer/seed 0"]


def test_a_server_that_is_away_changes_nothing_of_a_run(
    tiny_model: Path, tmp_path: Path, harness: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text("def init(**settings):\n    raise ConnectionError('no server')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    done = harness(
        "run", "--methods", "base", *SMALL, "--model", str(tiny_model), "--output", str(tmp_path / "run"),
        "--track", "wandb", stages=tmp_path / "stages",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    warnings = [line for line in done.stderr.splitlines() if "wandb" in line]  # type: ignore[attr-defined]
    assert warnings == ["wandb is left out from here on: begin failed (ConnectionError: no server); the run goes on."]
    assert "base" in done.stdout  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "wandb")


def test_a_tracker_that_is_not_installed_changes_no_byte(
    tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tracking.tracker.installed", lambda package: False)
    said = refusal(
        "run", "--methods", "base", *SMALL, "--output", str(tmp_path / "run"), "--track", "mlflow",
        stages=tmp_path / "stages",
    )  # fmt: skip
    assert said == "harness: --track mlflow needs mlflow: pip install '.[mlflow]' in the harness's checkout."
    assert not (tmp_path / "run").exists()
