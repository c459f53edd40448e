"""What a tracker is told of a run, and that nothing it does can end one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.observer import Observer
from harness.tracking.tracker import TRACKERS, Outcome, Rows, settings, tracker
from results.ground.errors import HarnessError
from results.schema import Command, PlannedCell, PlannedVariant, RunInfo
from results.store import RunFolder
from tests.reports.factory import make_grid, make_log, make_record


@dataclass
class Notebook:
    """A tracker that keeps what it is told."""

    told: list[tuple[Any, ...]] = field(default_factory=list)

    def begin(self, run: RunInfo) -> None:
        self.told.append(("begin", run.name))

    def curve(self, name: str, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        self.told.append(("curve", name, list(steps)))

    def values(self, name: str, numbers: Mapping[str, float]) -> None:
        self.told.append(("values", name, dict(numbers)))

    def table(self, rows: Rows) -> None:
        self.told.append(("table", rows))

    def end(self, outcome: Outcome) -> None:
        self.told.append(("end", outcome))

    def kinds(self) -> list[str]:
        return [what for what, *_ in self.told]

    def names(self, kind: str) -> list[str]:
        return [name for what, name, *_ in self.told if what == kind]


class Away(Notebook):
    """A tracker whose server is away from the given word on."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def __getattribute__(self, name: str) -> Any:
        if name != "at" and name == self.at:
            raise ConnectionError("no route to tracker.example.org\nmany\nlines")
        return super().__getattribute__(name)


def folder_of(tmp_path: Path, methods: Sequence[str] = ("base", "mixer")) -> RunFolder:
    records, items = make_grid(methods, ("sst2",), (0,), n=20)
    planned = [
        PlannedCell(cell=r.cell, method=r.spec.method, task=r.spec.task, seed=r.spec.seed, model=r.spec.model)
        for r in records
    ]
    folder = RunFolder(tmp_path / "run", RunInfo(name="run", cells=planned))
    folder.write_plan(folder.info)
    for record in records:
        folder.write_cell(record, items[record.cell])
    return folder


def test_a_run_is_told_from_what_it_holds_to_its_comparison(tmp_path: Path) -> None:
    told = Notebook()
    with Observer(told).following(folder_of(tmp_path)):
        told.told.append(("block", None))
    kinds = told.kinds()
    assert (kinds[0], kinds[-2], kinds[-1]) == ("begin", "table", "end")
    assert kinds.index("block") > kinds.index("values"), "what the folder holds already comes first"
    assert told.names("values") == ["cell/sst2/base/seed 0", "cell/sst2/mixer/seed 0"]
    assert told.told[-1] == ("end", "finished")


def test_a_cell_is_told_with_metrics_and_costs() -> None:
    told = Notebook()
    Observer(told).cell(make_record("mixer", "sst2", 3, value=0.625, n=40))
    (_, name, numbers) = told.told[0]
    assert name == "cell/sst2/mixer/seed 3"
    assert numbers["acc"] == 0.625
    assert numbers["tokens fit"] == 8_000
    assert numbers["trained parameters"] == 414_720
    assert numbers["items"] == 40
    assert {"seconds fit", "seconds evaluate", "peak memory fit"} <= numbers.keys()


def test_a_failed_cell_is_told_as_such_and_a_refused_one_is_not() -> None:
    told = Notebook()
    observer = Observer(told)
    observer.cell(make_record(status="failed", error="out of memory"))
    observer.cell(make_record("lora", status="refused", error="no expert"))
    assert told.told == [("values", "cell/sst2/mixer/seed 0", {"failed": 1.0})]


def test_a_fit_is_told_once_though_every_task_keeps_its_log() -> None:
    told = Notebook()
    observer = Observer(told)
    log = make_log(steps=3)
    observer.fit("mixer", 0, log)
    for task in ("sst2", "mrpc"):
        observer.cell(make_record("mixer", task, training_log=log))
    assert told.names("curve") == ["fit/mixer/seed 0"]
    (_, _, steps) = told.told[0]
    assert [step for step, _ in steps] == [1, 2, 3]
    assert steps[0][1].keys() == {"loss", "aux", "entropy", "lr"}


def test_another_variants_fit_of_the_same_name_stands_beside_it() -> None:
    told = Notebook()
    observer = Observer(told)
    observer.fit("mixer", 0, make_log(steps=3))
    observer.fit("mixer", 0, make_log(steps=3, sharp=0.5))
    assert told.names("curve") == ["fit/mixer/seed 0", "fit/mixer/seed 0 (2)"]


def test_phases_are_curves_of_their_own_and_rates_by_group_are_flat() -> None:
    told = Notebook()
    log = [
        {"phase": "routers", "step": 1, "loss": 2.0, "lr": {"routers": 0.1}},
        {"phase": "experts", "step": 1, "loss": 1.0, "lr": {"routers": 0.1, "experts": 0.2}},
        {"phase": "experts", "note": "converged"},
    ]
    Observer(told).fit("mixer-joint", 1, log)
    assert told.told == [
        ("curve", "fit/mixer-joint/seed 1/routers", [(1, {"loss": 2.0, "lr/routers": 0.1})]),
        ("curve", "fit/mixer-joint/seed 1/experts", [(1, {"loss": 1.0, "lr/routers": 0.1, "lr/experts": 0.2})]),
    ]


def test_an_expert_is_told_and_a_loss_that_is_not_a_number_too() -> None:
    told = Notebook()
    log = [{"step": 1, "loss": 2.0, "lr": 0.1}, {"step": 2, "loss": math.nan, "lr": 0.1}]
    Observer(told).expert({"expert": "sst2", "seed": 0, "log": log, "seconds": 1.0, "tokens": 9})
    (_, name, steps) = told.told[0]
    assert name == "expert/sst2/seed 0"
    assert math.isnan(steps[1][1]["loss"])


def test_the_comparison_has_columns_of_one_kind(tmp_path: Path) -> None:
    told = Notebook()
    with Observer(told).following(folder_of(tmp_path, ("base", "mixer", "mole"))):
        pass
    (rows,) = [told_[1] for told_ in told.told if told_[0] == "table"]
    assert rows.columns[:2] == ["panel", "method"]
    assert {"base", "mixer", "mole"} <= {row[1] for row in rows.rows}
    for at in range(len(rows.columns)):
        assert len({type(row[at]) for row in rows.rows} - {type(None)}) == 1, rows.columns[at]
    assert rows.text.startswith("**Methods by tasks")


@pytest.mark.parametrize("at", ["begin", "curve", "values", "table", "end"])
def test_a_tracker_that_fails_is_one_line_and_the_run_goes_on(
    at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = Away(at)
    done = False
    with Observer(away, "wandb").following(folder_of(tmp_path)):
        done = True
    assert done
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"wandb is left out from here on: {at} failed (ConnectionError: no route to tracker.example.org); "
        "the run goes on."
    )
    assert at == "end" or away.told == [] or away.told[-1] == ("end", "failed")


@pytest.mark.parametrize(
    ("error", "outcome"), [(KeyboardInterrupt(), "interrupted"), (HarnessError("no judge"), "failed")]
)
def test_a_run_that_ends_early_ends_its_tracking(error: BaseException, outcome: str, tmp_path: Path) -> None:
    told = Notebook()
    with pytest.raises(type(error)), Observer(told).following(folder_of(tmp_path)):
        raise error
    assert told.told[-1] == ("end", outcome)
    assert "table" not in told.kinds()


def test_what_a_tracker_prints_stays_off_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    class Chatty(Notebook):
        def values(self, name: str, numbers: Mapping[str, float]) -> None:
            print("uploading")  # noqa: T201

    Observer(Chatty()).cell(make_record())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "uploading\n"


def test_settings_are_flat_and_labelled_variants_stand_apart() -> None:
    run = RunInfo(
        name="run",
        commands=[Command(time="t0", arguments=["ablate", "rank"])],
        variants=[
            PlannedVariant(label=f"rank={rank}", config={"experts": {"rank": rank}, "tasks": ["sst2"]})
            for rank in (4, 8)
        ],
    )
    assert settings(run) == {
        "command": "harness ablate rank",
        "started": "t0",
        "rank=4.experts.rank": 4,
        "rank=4.tasks": ["sst2"],
        "rank=8.experts.rank": 8,
        "rank=8.tasks": ["sst2"],
    }


def test_an_unknown_tracker_is_one_sentence_with_the_nearest() -> None:
    with pytest.raises(HarnessError, match=r"Unknown tracker 'wandbb': did you mean wandb\?"):
        tracker("wandbb")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    monkeypatch.setattr("harness.tracking.tracker.installed", lambda package: False)
    with pytest.raises(HarnessError) as raised:
        tracker(name)
    assert str(raised.value) == f"--track {name} needs {name}: pip install '.[{name}]' in the harness's checkout."
    root = Path(__file__).resolve().parents[3]
    assert name in tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
