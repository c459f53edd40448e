"""Own-expert share, entropy and outcome of routed methods in one table, and how the first and the last go together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from statistics import mean, stdev
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.api import Run, build_report, render
from reports.errors import ReportError
from reports.routing_table import rank_correlation, table
from results.controls import KEY

RIGHT = {"a": 90, "b": 80, "c": 70, "d": 60, "e": 55}
"""Right answers of a hundred by method, the sharper router having more."""


def make_run(
    factory: ModuleType, sharp: dict[str, float], tasks: tuple[str, ...] = ("sst2", "mrpc"), seeds: int = 2
) -> tuple[list[Any], dict[str, Any]]:
    records, items = [], {}
    for method, logits in sharp.items():
        for task in tasks:
            for seed in range(seeds):
                routing = factory.make_routing(task, seed, logits)
                record = factory.make_record(method, task, seed, n=100, routing=routing)
                right = RIGHT.get(method, 50) + seed
                records.append(record)
                items[record.cell] = factory.make_items([1.0] * right + [0.0] * (100 - right), task)
    return records, items


def test_a_row_has_means_over_tasks_and_then_over_seeds(factory: ModuleType) -> None:
    made = table(*make_run(factory, {"a": 2.0}))
    by_seed = [[factory.make_routing(task, seed, 2.0) for task in ("sst2", "mrpc")] for seed in (0, 1)]
    masses = [mean(one.own_expert_mass for one in own) for own in by_seed]
    entropies = [mean(one.entropy for one in own) for own in by_seed]
    assert made.cell("a", "own").value == pytest.approx(mean(masses))
    assert made.cell("a", "own").std == pytest.approx(stdev(masses))
    assert made.cell("a", "entropy").value == pytest.approx(mean(entropies))
    assert made.cell("a", "outcome").value == pytest.approx(90.5)
    assert made.cell("a", "outcome").std == pytest.approx(stdev([90, 91]))
    assert made.cell("a", "outcome").n == 200
    assert made.cell("a", "outcome").low is None, "seeds alone make no interval here"
    assert len(made.cell("a", "outcome").runs) == 4
    assert made.cell("a", "seeds").value == 2
    assert made.cell("even", "own").value == 0.25


@pytest.mark.parametrize(("sharp", "expected"), [((5, 4, 3, 2, 1), "1.00"), ((1, 2, 3, 4, 5), "-1.00")])
def test_the_rank_correlation_over_rows_is_said(factory: ModuleType, sharp: tuple[int, ...], expected: str) -> None:
    made = table(*make_run(factory, dict(zip("abcde", map(float, sharp), strict=True))))
    assert f"over these 5 rows: {expected} (p 0.02)" in made.notes[0]


def test_four_rows_are_too_few_to_say_one(factory: ModuleType) -> None:
    made = table(*make_run(factory, {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}))
    assert not any("rank correlation" in note for note in made.notes)


@pytest.mark.parametrize("rows", [5, 6, 7, 8, 18])
def test_the_rank_correlation_is_scipys_and_its_p_a_permutations(rows: int) -> None:
    generator = np.random.default_rng(rows)
    a, b = generator.normal(size=(2, rows))
    b += a
    rho, p = rank_correlation(a, b)
    assert rho == pytest.approx(stats.spearmanr(a, b).statistic)
    orders = permutations(b) if rows < 8 else (generator.permutation(b) for _ in range(4000))
    found = [abs(stats.spearmanr(a, order).statistic) >= abs(rho) - 1e-9 for order in orders]
    assert p == pytest.approx(np.mean(found), abs=1e-9 if rows < 8 else 0.02)


def test_only_tasks_of_all_rows_count(factory: ModuleType) -> None:
    records, items = make_run(factory, {"a": 3.0})
    others, more = make_run(factory, {"b": 3.0}, ("sst2",))
    made = table([*records, *others], items | more)
    assert made.notes[0] == "Mean over sst2."
    assert made.cell("a", "own").value == pytest.approx(made.cell("b", "own").value)


def test_tasks_in_another_unit_are_left_out(factory: ModuleType) -> None:
    records, items = make_run(factory, {"a": 3.0})
    text = factory.make_record("a", "gsm8k", 0, n=2, unit="bits/byte", routing=factory.make_routing("gsm8k"))
    made = table([*records, text], items | {text.cell: factory.make_items([1.0, 0.5], "gsm8k")})
    assert made.notes[0] == "Mean over sst2, mrpc."
    assert made.notes[1].startswith("Left out: gsm8k (")


def test_a_seed_that_lacks_a_task_is_left_out(factory: ModuleType) -> None:
    records, items = make_run(factory, {"a": 3.0}, seeds=3)
    made = table(records[:-1], items)
    assert made.cell("a", "seeds").value == 2
    assert len(made.cell("a", "outcome").runs) == 4


def test_each_model_has_a_panel_and_one_without_rows_is_named(factory: ModuleType) -> None:
    records, items = make_run(factory, dict(zip("abcde", (5.0, 4.0, 3.0, 2.0, 1.0), strict=True)))
    for label, task in (("Second", "sst2"), ("Third", "boolq")):
        one = factory.make_record("a", task, model=label, routing=factory.make_routing(task))
        records.append(one)
        items[one.cell] = factory.make_items([1.0, 0.0], task)
    made = table(records, items)
    assert [panel.title for panel in made.panels] == [records[0].model.label, "Second"]
    assert made.notes[0].startswith(f"{records[0].model.label}: mean over sst2, mrpc. Spearman's")
    assert made.notes[1] == "Second: mean over sst2."
    assert "No row of Third (no score on a task with an own expert whose share is known)." in made.notes


def test_the_direction_of_an_outcome_is_said(factory: ModuleType) -> None:
    records, items = [], {}
    for method, logits in dict(zip("abcde", (5.0, 4.0, 3.0, 2.0, 1.0), strict=True)).items():
        routing = factory.make_routing("sst2", 0, logits)
        one = factory.make_record(method, "sst2", n=2, unit="bits/byte", routing=routing)
        better = one.metrics[one.primary].model_copy(update={"higher_is_better": False})
        records.append(one.model_copy(update={"metrics": {one.primary: better}}))
        items[one.cell] = factory.make_items([logits, logits], "sst2")
    assert "outcome, of which lower is better, over these 5 rows: 1.00" in table(records, items).notes[0]


def test_controls_and_what_does_not_route_have_no_row(factory: ModuleType) -> None:
    records, items = make_run(factory, {"a": 3.0})
    control = factory.make_record("a · x", "sst2", routing=factory.make_routing("sst2"), config={KEY: {"name": "x"}})
    plain = factory.make_record("base", "sst2")
    more = {one.cell: factory.make_items([1.0], "sst2") for one in (control, plain)}
    made = table([*records, control, plain], items | more)
    assert [row.label for _, row in made.rows()] == ["a", "even weights over 4 experts"]


def test_a_method_whose_tasks_have_no_own_expert_is_named(factory: ModuleType) -> None:
    records, items = make_run(factory, {"a": 3.0})
    other = factory.make_record("b", "boolq", routing=factory.make_routing("boolq"))
    made = table([*records, other], items | {other.cell: factory.make_items([1.0], "boolq")})
    assert made.notes[1:3] == (
        "Left out: boolq (no own expert, no score, another unit, or not finished for every row that routes).",
        "No row: b (no score on a task with an own expert whose share is known).",
    )


def test_what_no_seed_changes_has_no_deviation(factory: ModuleType) -> None:
    records, items = make_run(factory, {"a": 3.0})
    settled = [one.model_copy(update={"extra": {"settled": True}}) for one in records]
    assert table(settled, items).cell("a", "outcome").std is None


def test_where_nothing_routes_it_is_a_sentence(factory: ModuleType) -> None:
    record = factory.make_record("base", "sst2")
    with pytest.raises(ReportError, match="No finished method here routes"):
        table([record], {record.cell: factory.make_items([1.0], "sst2")})


def test_it_is_rendered_of_the_study() -> None:
    """The study's rows, by the question that asks for them."""
    made: Any = build_report(Run.open(Path("results/reference/smollm2-135m/gemma3-270m")), "routing")
    assert {row.label for _, row in made.rows()} >= {"mixer", "mole", "even weights over 5 experts"}


def test_its_files(factory: ModuleType, stored: Callable[..., Path]) -> None:
    path = stored(*make_run(factory, {"a": 3.0}))
    assert [one.name for one in render(path, "routing", ["md", "latex"])] == ["routing.md", "routing.tex"]
