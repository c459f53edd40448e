"""The machinery of benchmarks; their figures are measured by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import harness.bench
from harness.bench import BENCHMARKS, benchmark, plans
from harness.bench.composed import copied
from harness.bench.engine import Stopwatch, watched
from harness.bench.measure import Options, Row, WorkCounter, by_turns
from harness.bench.peer import instances
from harness.bench.scaling import draw, point
from harness.bench.startup import peak
from harness.cli import app
from methods.tiny import tiny_llama
from results.ground.errors import HarnessError
from tasks.base import Request


def row(**changes: Any) -> Row:
    return Row(
        **{"name": "n", "setting": "s", "peer": "p", "seconds": [1.0, 2.0, 9.0], "peer_seconds": [5.0, 6.0, 7.0]}
        | {"target": 3.0}
        | changes
    )


def test_rows_compare_medians() -> None:
    assert (row().median, row().peer_median, row().ratio, row().reached) == (2.0, 6.0, 3.0, True)
    assert not row(target=3.1).reached
    assert row(target=2.0, kind="seconds").reached
    assert not row(target=1.9, kind="seconds").reached
    assert row(kind="overhead", target=0.4).ratio == 1 / 3
    assert row(kind="overhead", target=0.4).reached
    assert not row(kind="overhead", target=0.3).reached
    assert row(target=None).reached is None


def test_sides_take_turns() -> None:
    order: list[str] = []
    ours, theirs = by_turns(lambda: order.append("us"), lambda: order.append("them"), Options(repetitions=3))
    assert order == ["us", "them", "them", "us", "us", "them"]
    assert len(ours) == len(theirs) == 3


def test_work_is_counted_until_the_counter_is_removed() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    counter = WorkCounter(model)
    model(torch.zeros(4, 7, 3))
    assert counter.take() == 4 * 7 * (3 * 5 + 5 * 2)
    assert counter.take() == 0
    counter.remove()
    model(torch.zeros(1, 3))
    assert counter.take() == 0


def test_both_sides_get_the_same_instances() -> None:
    likelihood, generation = instances(
        [
            Request("loglikelihood", "shots ", "question", " answer"),
            Request("generate", "shots ", "question", until=("\n",), max_new_tokens=7),
        ]
    )
    assert likelihood.args == ("shots question", " answer")
    assert generation.args == ("shots question", {"until": ["\n"], "max_gen_toks": 7, "do_sample": False})


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_loaded(name: str) -> None:
    assert benchmark(name).__name__ == name


def test_command_prints_rows_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Options] = []

    def fake(options: Options) -> list[Row]:
        asked.append(options)
        return [row(limit=4.0, agreement="all equal"), row(target=1.0, kind="seconds")]

    monkeypatch.setattr("harness.commands.bench.benchmark", lambda name: fake)
    result = CliRunner().invoke(app, ["bench", "x", "--items", "5", "--peer-batches", "2,8"])
    assert result.exit_code == 0, result.output
    assert "n: 3.00x, arithmetic 4.00x (target at least 3x: reached)" in result.output
    assert "n: 2.00 s (target at most 1 s: missed)" in result.output
    assert "all equal" in result.output
    assert asked == [Options(items=5, peer_batches=(2, 8))]
    result = CliRunner().invoke(app, ["bench", "x", "--json"])
    printed = json.loads(result.output)
    assert [own["ratio"] for own in printed["rows"]] == [3.0, 3.0]
    assert "hardware" in printed["machine"]


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(HarnessError, match="Unknown benchmark 'generatoin': did you mean generation"):
        harness.bench.benchmark("generatoin")
    result = CliRunner().invoke(app, ["bench", "startup", "--plot", "x.svg"])
    assert str(result.exception).startswith("--plot: the benchmark startup draws nothing")
    result = CliRunner().invoke(app, ["bench", "startup", "--items", "0"])
    assert isinstance(result.exception, HarnessError)
    assert str(result.exception).startswith("--items: ")


def test_a_clock_counts_once_what_runs_inside_itself() -> None:
    times = iter([1.0, 4.0, 10.0, 11.5])
    clock = Stopwatch(lambda: next(times))
    clock.start()
    clock.start()
    clock.stop()
    clock.stop()
    clock.start()
    clock.stop()
    assert clock.total == 4.5


def test_passes_gradients_and_steps_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import models

    layer = nn.Linear(2, 1)
    base = models.BaseModel("m", "0", "m", layer, None)  # type: ignore[arg-type]
    monkeypatch.setattr(models, "load", lambda: base)
    times = iter(range(100))
    clock = Stopwatch(lambda: float(next(times)))
    with watched(clock):
        loss = models.load().model(torch.ones(1, 2)).sum()  # type: ignore[call-arg, operator]
        assert clock.total == 1
        loss.backward()
        assert clock.total == 2
        torch.optim.SGD(layer.parameters(), lr=0.1).step()
        assert clock.total == 3
    loss = layer.weight.sum()
    loss.backward()
    assert clock.total == 3


def test_the_plot_has_a_panel_for_each_axis(tmp_path: Path) -> None:
    rows = [
        row(kind="overhead", target=None, limit=1.0 + value / 10, axis=axis, value=value)
        for axis in ("experts", "context")
        for value in (1, 2, 4)
    ]
    draw(rows, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count('id="axes_') == 2


def test_plans_are_drawn_by_their_cells(tmp_path: Path) -> None:
    rows = [
        row(name=f"a {kind} of {cells}", kind="seconds", axis="cells", value=cells, memory=0.5)
        for kind in ("plan", "report")
        for cells in (100, 1000)
    ]
    plans.draw(rows, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count('id="axes_') == 2
    assert "GiB at most" in text or "<!-- GiB at most -->" in text


def test_a_command_says_what_it_took_at_most() -> None:
    little, more = (
        peak([sys.executable, "-c", f"kept = bytearray({size}); kept[::4096] = b'x' * len(kept[::4096])"])
        for size in (1, 200 * 2**20)
    )
    assert little < 0.05
    assert 0.19 < more - little < 0.21
    with pytest.raises(HarnessError, match="no such thing"):
        peak([sys.executable, "-c", "import sys; sys.exit('harness: no such thing')"])


def test_scaling_counts_what_experts_add() -> None:
    model = tiny_llama().base_model
    options = Options(repetitions=1)
    rows = [point(copied(model), model, "experts", value, options) for value in (1, 4, 8)]
    limits = [found.limit for found in rows]
    assert all(limit is not None for limit in limits)
    assert limits[2] - limits[1] == pytest.approx(4 / 3 * (limits[1] - limits[0]))  # type: ignore[operator]
