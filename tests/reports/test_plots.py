"""Plots: the data they draw, files that are equal for equal data, and colours that stay apart."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from reports.catalogue import ablations, build, companion
from reports.comparison import PARAMETERS, comparison
from reports.plots import routing, scores
from reports.plots.draw import PALETTE, draw, save, svg
from reports.plots.figure import Axes, Figure, Reference, Series
from reports.ranking import MEAN
from results.controls import RANDOM_EXPERTS, SHUFFLED_ROUTER, identity, named


def test_entropy_by_layer_is_the_mean_of_its_modules(factory: ModuleType) -> None:
    records, _ = factory.make_grid(methods=("base", "mixer"), n=2)
    (line,) = routing.entropy_by_layer(records).axes[0].series
    assert line.x == (0.0, 1.0, 2.0, 3.0)
    values = [r.routing.per_module["entropy"][4:8] for r in records if r.routing]
    assert line.y[1] == pytest.approx(np.mean(values))
    assert all(low <= y <= high for low, y, high in zip(line.low, line.y, line.high, strict=True))


def test_pareto_has_every_method_against_both_costs(factory: ModuleType) -> None:
    records, items = factory.make_grid(n=20)
    table = comparison(records, items)
    figure = scores.pareto(table, records)
    parameters, seconds = figure.axes
    assert [s.name for s in parameters.series] == ["base", "uniform", "mixer", "mole", "lora"]
    mixer = parameters.series[2]
    assert mixer.x == (table.cell("mixer", PARAMETERS).value,)
    assert mixer.y == (table.cell("mixer", MEAN).value,)
    own = [r for r in records if r.spec.method == "mixer"]
    rate = 1000 * sum(r.cost.seconds["evaluate"] for r in own) / sum(10_000 for _ in own)
    assert seconds.series[2].x == (pytest.approx(rate),)


def test_balance_curve_is_the_raw_term(factory: ModuleType) -> None:
    records, _ = factory.make_grid(methods=("mixer",), n=2)
    (line,) = routing.balance_curve(records).axes[0].series
    assert len(line.x) == 60
    assert line.y == pytest.approx([step["aux"] for step in records[0].training_log])


def test_heat_map_has_the_weights_as_axes(factory: ModuleType) -> None:
    ablation = next(one for one in ablations() if one.name == "alpha-lambda")
    records, items = factory.make_grid(methods=ablation.methods, seeds=(0,), n=20)
    table = build(ablation, records, items)
    figure = companion(ablation, table)
    assert [series.name for series in figure.axes[0].series] == ["0.05", "0.1", "0.2"]
    assert figure.axes[0].series[0].x == ("0.01", "0.05", "0.1")
    method = "mixer[loss.aux.coef=0.2,loss.entropy.coef=0.01]"
    assert figure.axes[0].series[2].y[0] == table.cell(method, MEAN).value


def every_kind(factory: ModuleType) -> list[Figure]:
    records, items = factory.make_grid(n=10)
    ablation = next(one for one in ablations() if one.name == "alpha-lambda")
    grid, more = factory.make_grid(methods=ablation.methods, seeds=(0,), n=10)
    return [
        routing.load_overall(records, band=(15, 18)),
        routing.load_by_task(records),
        routing.entropy_by_layer(records),
        routing.balance_curve(records),
        scores.pareto(comparison(records, items), records),
        companion(ablation, build(ablation, grid, more)),
    ]


def test_all_kinds_are_drawn_without_text_outside(factory: ModuleType, tmp_path: Path) -> None:
    for figure in every_kind(factory):
        paths = save(figure, tmp_path)
        assert [path.suffix for path in paths] == [".pdf", ".png"]
        assert all(path.stat().st_size > 2000 for path in paths)
        drawing = draw(figure)
        drawing.canvas.draw()
        box = drawing.bbox
        unseen = {
            id(tick.label1)
            for panel in drawing.axes
            for tick in panel.xaxis.get_major_ticks()
            if not min(panel.get_xlim()) <= tick.get_loc() <= max(panel.get_xlim())
        }
        for text in drawing.findobj(lambda artist: hasattr(artist, "get_text")):
            if text.get_visible() and text.get_text() and id(text) not in unseen:
                extent = text.get_window_extent()
                assert extent.x0 >= box.x0 - 1, (figure.name, text.get_text())
                assert extent.x1 <= box.x1 + 1, (figure.name, text.get_text())


def test_equal_data_give_equal_files(factory: ModuleType, tmp_path: Path) -> None:
    figure = routing.load_overall(factory.make_grid(n=2)[0])
    first = [path.read_bytes() for path in save(figure, tmp_path, ("pdf", "png", "svg"))]
    assert first == [path.read_bytes() for path in save(figure, tmp_path, ("pdf", "png", "svg"))]
    assert svg(figure).startswith("<svg")


def test_missing_points_leave_gaps_and_do_not_fail(tmp_path: Path) -> None:
    gap = Series("a", (1.0, 2.0, 3.0), (1.0, None, 3.0), (0.5, None, 2.0), (1.5, None, 4.0))
    for kind in ("lines", "bars", "heat"):
        save(Figure(f"gap-{kind}", "Gap", (Axes(kind, "x", "y", (gap,)),)), tmp_path, ["png"])


def test_colours_stay_apart_for_the_colour_blind() -> None:
    """Deuteranopia and protanopia as linear maps of linear RGB (Vienot, Brettel and Mollon 1999)."""
    simulations = {
        "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    }
    colors = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in PALETTE[:6]])
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    for name, matrix in simulations.items():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
        assert min(distances) > 0.1, name


def test_loads_stand_beside_the_published_band_whatever_the_pool(factory: ModuleType) -> None:
    """15 to 18 % of six experts are 0.90 to 1.08 of an even load; a pool of four has no other scale."""
    records, _ = factory.make_grid(methods=("mixer",), n=2)
    (axes,) = routing.load_overall(records, band=(15, 18)).axes
    even, band = axes.references
    assert (even.value, band.value, band.high) == (1.0, pytest.approx(0.90), pytest.approx(1.08))
    assert sum(axes.series[0].y) == pytest.approx(len(axes.series[0].y))


def test_loads_of_two_losses_are_set_against_each_other_by_seed(factory: ModuleType) -> None:
    records, _ = factory.make_grid(methods=("mixer", "mixer-aux"), n=2)
    *own, difference = routing.load_by_task(records, ("mixer", "mixer-aux")).axes
    assert difference.title == "mixer − mixer-aux"
    first, second = (axes.series[0].y for axes in own)
    assert difference.series[0].y == pytest.approx([a - b for a, b in zip(first, second, strict=True)])
    assert all(low <= y <= high for low, y, high in zip(difference.series[0].low, difference.series[0].y,
                                                         difference.series[0].high, strict=True))  # fmt: skip


def test_the_declared_method_is_set_against_the_first_other(factory: ModuleType) -> None:
    records, _ = factory.make_grid(methods=("mole", "mixer", "mixer-aux"), n=2)
    assert routing.load_by_task(records).axes[-1].title == "mole − mixer"
    assert routing.load_by_task(records, against=("uniform", "mixer")).axes[-1].title == "mixer − mole"


def test_a_shuffled_routers_curves_are_drawn_once(factory: ModuleType) -> None:
    """Its fit is the method's own; a control that is fitted anew is drawn."""
    records, _ = factory.make_grid(methods=("mixer",), n=2)
    for control in (SHUFFLED_ROUTER, RANDOM_EXPERTS):
        more, _ = factory.make_grid(methods=(named("mixer", control),), n=2, config=identity(control))
        records += more
    figures = (routing.load_overall(records), routing.entropy_by_layer(records), routing.balance_curve(records))
    drawn = {figure.name: {one.name for axes in figure.axes for one in axes.series} for figure in figures}
    assert set(map(frozenset, drawn.values())) == {frozenset({"mixer", "mixer · random experts"})}


def _by_k(factory: ModuleType, tasks: tuple[str, ...] = ("sst2", "cola")) -> tuple[list, dict]:
    records, items = [], {}
    for k in (1, 2, 3, 4):
        more = factory.make_grid(
            [f"mixer[route.eval_k={k},route.train_k={k}]"], tasks, (0, 1, 2), 40, config={"route": {"eval_k": k}}
        )
        records, items = records + more[0], {**items, **more[1]}
    return records, items


def test_top_k_shows_paired_differences_and_its_seeds(factory: ModuleType) -> None:
    records, items = _by_k(factory)
    figure = scores.top_k(records, items)
    values, differences = figure.axes
    assert differences.ylabel == "acc minus that at k = 3, points"
    line, difference = values.series[0], differences.series[0]
    assert difference.x == (1.0, 2.0, 4.0)
    assert difference.y[0] == pytest.approx(line.y[0] - line.y[2])
    assert difference.high[0] - difference.low[0] > 0
    assert "3 seeds (0, 1, 2)" in figure.notes[0]


def test_one_coordinate_system_a_metric_and_any_metric(factory: ModuleType) -> None:
    records, items = _by_k(factory)
    for record in records:
        if record.spec.task == "cola":
            metrics = {"judge_score": record.metrics["acc"].model_copy(update={"unit": "score"})}
            place = records.index(record)
            records[place] = record.model_copy(update={"primary": "judge_score", "metrics": metrics})
            items[record.cell] = [
                one.model_copy(update={"metrics": {"judge_score": one.metrics["acc"]}}) for one in items[record.cell]
            ]
    figure = scores.top_k(records, items)
    assert [axes.title for axes in figure.axes] == ["acc", "difference", "judge_score", "difference"]
    assert scores.top_k(records, items, metric="gold_logprob").axes[0].ylabel == "gold_logprob, nats"


def test_captions_are_not_drawn(factory: ModuleType) -> None:
    figure = routing.load_overall(factory.make_grid(n=2)[0])
    assert figure.title not in svg(figure)


def test_rows_stand_below_each_other_and_are_named_once() -> None:
    series = Series("entropy", ("mixer-none", "mixer"), (0.8, 0.4), (0.7, None), (0.9, None))
    band = Reference("published", 0.5, 0.7)
    figure = Figure("rows", "", tuple(Axes("rows", "method", "H", (series,), references=(band,)) for _ in range(2)))
    left, right = draw(figure).axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == ["mixer-none", "mixer"]
    assert left.get_ylim()[0] > left.get_ylim()[1], "the first on top"
    assert (left.get_xlabel(), left.get_ylabel()) == ("H", "")
    assert not right.yaxis.get_tick_params()["labelleft"]
