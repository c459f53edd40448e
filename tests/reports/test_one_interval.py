"""One difference has one interval wherever it is shown: seeds vary as they do in the whole panel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reports.catalogue import entry
from reports.catalogue.series import efficiency_notes, mean_tests, points
from reports.efficiency import efficiency
from reports.plots.scores import differences
from reports.ranking import Question, family, marks
from reports.scores import Key, Scores
from tests.reports.factory import make_record

SIZES = (32, 64, 128)
METHODS = tuple(entry("t9").methods)
FIRST, SECOND = METHODS[:2]


def drawn(method: str, generator: np.random.Generator) -> Scores:
    """Three seeds that matter and a hundred items."""
    ease, seeds = generator.random(100), generator.normal(0, 0.05, (3, 1))
    values = ((ease < 0.5 + seeds) ^ (generator.random((3, 100)) < 0.05)).astype(float)
    key = Key("model", method, "sst2")
    return Scores(key, "acc", "fraction", True, values, tuple(f"item-{i}" for i in range(100)), (0, 1, 2), ())


@pytest.fixture
def columns() -> dict[int, dict[str, Scores]]:
    """By size, then by method."""
    generator = np.random.default_rng(3)
    return {size: {method: drawn(method, generator) for method in METHODS} for size in SIZES}


def test_notes_and_pictures_have_the_tables_intervals(columns: dict[int, dict[str, Scores]]) -> None:
    grid = {method: {size: {"sst2": columns[size][method]} for size in SIZES} for method in METHODS}
    note, _ = efficiency_notes(entry("t9"), grid, ["sst2"])
    tests = {
        size: mean_tests({m: {"sst2": one} for m, one in by.items()}, Question(FIRST)) for size, by in columns.items()
    }
    axes = differences(tests, "fraction", "routing examples")
    assert axes is not None
    line = next(one for one in axes.series if one.name == f"{FIRST} − {SECOND}")
    for place, size in enumerate(SIZES):
        found = family({"sst2": columns[size]}, question=Question(FIRST)).between("sst2", FIRST, SECOND)
        assert found is not None
        assert f"{size}: {points(found)}" in note
        assert (line.low[place], line.high[place]) == pytest.approx((100 * found.low, 100 * found.high))


def test_other_methods_tell_how_much_seeds_matter() -> None:
    """Two methods whose three seeds agree by chance are not sure of their difference where others' do not."""
    generator = np.random.default_rng(0)
    base = (generator.random((1, 200)) < 0.5).astype(float)
    agreeing = [{size: [np.repeat(base, 3, 0) + shift] for size in SIZES} for shift in (0.0, 0.02)]
    for one in agreeing:
        for size in SIZES:
            one[size][0] = one[size][0] + generator.normal(0, 1e-4, (3, 1))
    noisy = [{size: [np.repeat(base, 3, 0) + generator.normal(0, 0.05, (3, 1))] for size in SIZES} for _ in range(2)]
    assert efficiency(*agreeing).area.significant
    assert not efficiency(*agreeing, others=noisy).area.significant


def test_the_declared_method_is_underlined_where_it_cannot_be_told_from_the_best() -> None:
    generator = np.random.default_rng(1)
    alike = {name: drawn(name, generator) for name in METHODS[:2]}
    ahead = {FIRST: alike[FIRST], SECOND: replace(alike[FIRST], values=1 - 0.2 * (1 - alike[FIRST].values))}
    for column, expected in ((alike, {FIRST: "tied", SECOND: "best"}), (ahead, {SECOND: "best"})):
        found = family({"sst2": column}, question=Question(FIRST))
        assert marks({FIRST: 0.4, SECOND: 0.6}, "sst2", found, higher_is_better=True) == expected


@pytest.mark.parametrize(("settled", "decided"), [({}, False), ({"settled": True}, True)])
def test_a_row_drawn_once_is_undecided_beside_rows_of_three_seeds(settled: dict[str, bool], decided: bool) -> None:
    """What chose an expert on one draw of rows might have chosen another; what draws nothing needs no second seed."""
    generator = np.random.default_rng(3)
    record = make_record("best-single").model_copy(update={"extra": settled})
    often = replace(drawn("mixer", generator), records=(make_record(),))
    nothing = Key("model", "best-single", "sst2")
    once = replace(often, key=nothing, values=0 * often.values[:1], seeds=(0,), records=(record,))
    tests = family({"sst2": {"mixer": often, "best-single": once}}, question=Question("mixer"))
    test = tests.between("sst2", "mixer", "best-single")
    assert test is not None
    assert test.p < 0.05
    assert test.decisive is decided


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("settled", [True, False])
def test_rows_that_draw_nothing_are_told_apart_however_often_they_are_stored(seeds: int, settled: bool) -> None:
    """Equal values of every seed are no sign of it: rows that drew may agree as well."""
    column = {}
    for method, right in (("uniform", 90), ("ties", 20)):
        values = np.array([[1.0] * right + [0.0] * (100 - right)] * seeds)
        records = tuple(
            make_record(method, seed=seed).model_copy(update={"extra": {"settled": True} if settled else {}})
            for seed in range(seeds)
        )
        names = tuple(f"item-{i}" for i in range(100))
        key = Key("model", method, "sst2")
        column[method] = Scores(key, "acc", "fraction", True, values, names, tuple(range(seeds)), records)
    test = family({"sst2": column}, question=Question("uniform")).between("sst2", "uniform", "ties")
    assert test is not None
    assert test.p < 0.001
    assert test.outcome == ("better" if settled or seeds == 3 else "undecided")
