"""Families of tests are wrong in at most 5 % of tables, find what they say they find, and mark nothing at a floor."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.weightstats import ttost_paired

from benchmarks.family_error import GAIN, World, family_of, rates
from reports.comparison import VERDICT, Options, comparison, families
from reports.ranking import MEAN, Question
from reports.statistics import MIN_SEEDS, Part, deciding, detectable_by, half_width, paired_test, sign_flip, tail_p
from reports.statistics.variance import seed_parts

ONE, PAIRS = Question("a"), Question(None)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("items", "seed_sd", "repetitions"), [(60, 0.1, 100), (400, 0.0, 150), (400, 0.1, 150)])
def test_equal_methods_are_rarely_told_apart(items: int, seeds: int, seed_sd: float, repetitions: int) -> None:
    """Five equal methods on three tasks; what a method makes of an item stays the same for every seed."""
    found = rates(World(items, seeds, seed_sd=seed_sd), ONE, repetitions)
    assert_at_most_five_per_cent(found, repetitions)


def assert_at_most_five_per_cent(found: dict[str, float], repetitions: int) -> None:
    """No more than chance makes of 5 % or less (one-sided, 1 %)."""
    for name, rate in found.items():
        above = stats.binomtest(round(rate * repetitions), repetitions, 0.05, alternative="greater").pvalue
        assert above > 0.01, (name, rate)


@pytest.mark.parametrize(
    ("world", "question", "repetitions"),
    [
        (World(4000, 3), ONE, 60),
        (World(4000, 10, tasks=1), ONE, 60),
        (World(1000, 3), PAIRS, 60),
        (World(1000, 3, frozen=True), ONE, 100),
    ],
)
def test_neither_are_they_with_many_items(world: World, question: Question, repetitions: int) -> None:
    assert_at_most_five_per_cent(rates(world, question, repetitions), repetitions)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds: int) -> None:
    generator = np.random.default_rng(0)
    tests = family_of(World(4000, seeds, gain=1.0).draw(generator), ONE).tests
    assert {test.outcome for test in tests.values()} == {"undecided"}
    assert min(test.p for test in tests.values()) < 0.05 or seeds == 2
    assert seeds < MIN_SEEDS


def test_pooling_finds_more_than_each_pair_by_itself() -> None:
    world = World(1000, 5, gain=GAIN)
    assert rates(world, ONE, 60)["power mean"] > 0.3
    generator = np.random.default_rng(1)
    drawn = [world.draw(generator)[0] for _ in range(60)]
    alone = [paired_test(y[:, 0], y[:, 1]).p < 0.05 / 4 for y in drawn]
    together = [family_of([y], ONE).tests["task 0", "a", "b"].p < 0.05 / 4 for y in drawn]
    assert np.mean(together) > np.mean(alone)


def test_what_is_called_detectable_is_found_in_four_of_five() -> None:
    """The printed difference is put in as the true one."""
    generator = np.random.default_rng(2)
    null = [family_of(World(1000, 5).draw(generator), ONE) for _ in range(20)]
    sizes = [detectable_by(t, 0.05 / 4) for f in null for (column, _, _), t in f.tests.items() if column == MEAN]
    # A latent gain of 0.165 is 5.7 points.
    gain = float(np.median(sizes)) / 0.057 * GAIN
    assert rates(World(1000, 5, gain=gain), ONE, 60)["power mean"] == pytest.approx(0.8, abs=0.12)


def test_the_pooled_variance_is_the_mean_square_of_the_two_way_layout() -> None:
    """statsmodels' repeated-measures table has the same residual: F = MS_methods / MS_rest."""
    import pandas as pd

    generator = np.random.default_rng(3)
    pool = generator.normal(0.6, 0.02, (4, 5)) + generator.normal(0, 0.05, (4, 1))
    frame = pd.DataFrame([(s, m, pool[s, m]) for s in range(4) for m in range(5)], columns=["seed", "method", "score"])
    table = AnovaRM(frame, "score", "seed", within=["method"]).fit().anova_table
    between = 4 * pool.mean(axis=0).var(ddof=1)
    square = between / float(table["F Value"].iloc[0])
    (part,) = seed_parts(np.zeros(4), pool, paired=True)
    assert part == pytest.approx((2 * square / 4, 12))
    assert int(table["Den DF"].iloc[0]) == 12
    noisy = seed_parts(np.array([0.5, -0.5, 0.5, -0.5]), pool, paired=True)
    assert noisy[0].variance == pytest.approx(np.var([0.5, -0.5, 0.5, -0.5], ddof=1) / 4)


def test_one_part_is_students_test_and_two_parts_cover() -> None:
    part = Part(0.04, 7)
    assert tail_p(0.5, [part]) == pytest.approx(stats.t.sf(2.5, 7), rel=1e-4)
    assert half_width([part], 0.025) == pytest.approx(0.2 * stats.t.ppf(0.975, 7))
    generator = np.random.default_rng(4)
    for truth in (0.0, 0.2, 1.0, 5.0):
        hits = []
        for _ in range(2000):
            parts = [Part(truth * generator.chisquare(2) / 2, 2), Part(generator.chisquare(30) / 30, 30)]
            hits.append(abs(generator.normal(0, np.sqrt(truth + 1))) <= half_width(parts, 0.025))
        assert np.mean(hits) > 0.94


def test_random_signs_have_their_exact_distribution() -> None:
    generator = np.random.default_rng(5)
    thirds = generator.integers(-3, 5, 15) / 3
    assert sign_flip(thirds, flips=1) == pytest.approx(sign_flip(thirds), abs=1e-12)
    for shift in (0.0, 0.4, 0.8):
        any_size = generator.normal(shift, 1, 16)
        assert sign_flip(any_size, flips=1) == pytest.approx(sign_flip(any_size), rel=0.2)


def test_equivalence_equals_statsmodels_and_needs_items() -> None:
    generator = np.random.default_rng(6)
    a = generator.normal(0.5, 0.1, (1, 2000))
    b = a + generator.normal(0.001, 0.05, (1, 2000))
    test = paired_test(a, b, seeds=(None, None), margin=0.005)
    expected = ttost_paired(a[0], b[0], -0.005, 0.005)[0]
    assert test.p_equivalent == pytest.approx(expected, rel=0.1)
    assert test.equivalent
    same = np.array([[1.0, 0.0] * 20])
    assert paired_test(same, same, seeds=(None, None), margin=0.01).outcome == "undecided"
    many = np.array([[1.0, 0.0] * 2000])
    assert paired_test(many, many, seeds=(None, None), margin=0.01).outcome == "equivalent"
    assert paired_test(many, many, margin=0.01).outcome == "undecided"


def test_what_would_decide_does() -> None:
    generator = np.random.default_rng(7)
    test = paired_test(*generator.normal([[[0.02]], [[0.0]]], 0.3, (2, 4, 300)), margin=0.01)
    size = deciding(test, 0.05, difference=0.02)
    assert size is not None
    assert size.items >= test.n_items
    found = [
        paired_test(*generator.normal([[[0.02]], [[0.0]]], 0.3, (2, size.seeds, size.items))).p < 0.05
        for _ in range(60)
    ]
    assert np.mean(found) > 0.6


def test_oracles_and_floors_are_not_marked(factory: ModuleType) -> None:
    rates_of = {"base": 0.0, "uniform": 0.0, "mixer": 0.0, "lora": 0.9}
    records, items = factory.make_grid(tuple(rates_of), ("gsm8k",), n=20)
    for record in records:
        right = 1.0 if record.spec.method == "lora" else 0.0
        items[record.cell] = factory.make_items([right] * 20, "gsm8k")
    table = comparison(records, items)
    assert all(cell.mark is None for _, row in table.rows() for cell in row.cells.values())
    assert [row.key for row in table.panels[-1].rows] == ["lora"]


def test_a_best_value_that_the_majority_class_reaches_is_not_bold(factory: ModuleType) -> None:
    """The factory's majority level is 51 %."""
    for right, mark in ((51, None), (52, "best")):
        records, items = [], {}
        for method, count in (("base", 30), ("mixer", right)):
            for seed in range(3):
                record = factory.make_record(method, seed=seed, n=100)
                records.append(record)
                items[record.cell] = factory.make_items([1.0] * count + [0.0] * (100 - count))
        table = comparison(records, items)
        assert table.cell("mixer", "sst2").mark == mark
        said = [table.footnotes[key] for key in table.cell("mixer", "sst2").footnotes]
        assert "Not above the majority class (one-sided, 5 %)." in said


def test_a_task_at_the_floor_for_all_leaves_the_mean(factory: ModuleType) -> None:
    """On one task nobody is right; on another each row gives one answer to all items, 32 and 68 per cent by seed."""
    records, items = factory.make_grid(("base", "mixer", "mole"), ("sst2", "arc-e", "gsm8k", "mrpc"), n=50)
    for record in records:
        if record.spec.task == "gsm8k":
            items[record.cell] = factory.make_items([0.0] * 50, "gsm8k")
        if record.spec.task == "mrpc":
            says = ("yes", "no")[record.spec.seed % 2]
            golds = ["yes"] * 34 + ["no"] * 16
            made = factory.make_items([float(gold == says) for gold in golds], "mrpc")
            items[record.cell] = [
                item.model_copy(update={"prediction": says, "gold": gold})
                for item, gold in zip(made, golds, strict=True)
            ]
    table = comparison(records, items)
    two = [table.cell("mixer", task).value for task in ("sst2", "arc-e")]
    assert table.cell("mixer", MEAN).value == pytest.approx(np.mean(two))
    assert any(note.startswith("Not in the mean: gsm8k, mrpc, where every row is at the floor") for note in table.notes)
    said = [table.footnotes[key] for key in table.cell("mixer", "mrpc").footnotes]
    assert "The same answer to every item: 'no' or, by seed, 'yes'." in said


def test_verdicts_stand_in_the_table_and_follow_the_direction(factory: ModuleType) -> None:
    """Where less is better, the row with less is the better one."""
    records, items = [], {}
    generator = np.random.default_rng(8)
    for method, level in (("mixer", 1.0), ("mole", 1.3), ("random", 1.0)):
        for seed in range(3):
            record = factory.make_record(method, "gsm8k", seed, n=400, unit="bits/byte")
            metric = record.metrics["acc"].model_copy(update={"higher_is_better": False})
            record = record.model_copy(update={"metrics": {"acc": metric}, "majority": None})
            records.append(record)
            values = level + np.random.default_rng(9).normal(0, 0.1, 400) + generator.normal(0, 0.005, 400)
            items[record.cell] = factory.make_items(values.tolist(), "gsm8k")
    table = comparison(records, items, options=Options(margin=0.05))
    assert [table.cell(m, VERDICT).text for m in ("mixer", "mole", "random")] == ["", "worse", "equivalent"]


def test_a_family_is_what_was_declared(factory: ModuleType) -> None:
    records, items = factory.make_grid(("base", "uniform", "mixer", "mole"), ("sst2", "arc-e"), n=30)
    (_, _, tests, *_), *_ = families(records, items)
    assert set(tests.tests) == {(c, "mixer", m) for c in ("sst2", "arc-e", MEAN) for m in ("base", "uniform", "mole")}
    assert (tests.size(MEAN), tests.size("sst2")) == (3, 6)
    smallest = min((test for (c, _, _), test in tests.tests.items() if c == MEAN), key=lambda test: test.p)
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.p))
    (_, _, every, *_), *_ = families(records, items, options=Options(against=("all",)))
    assert len(every.tests) == 3 * 6
