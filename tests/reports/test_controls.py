"""Notes on controls: a method beats them or does not, and says by how much."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest

from reports.api import difference_table
from reports.comparison import Options, comparison
from reports.ranking import MEAN
from results.controls import CONTROLS, RANDOM_EXPERTS, ROUTER_DATA, SHUFFLED_ROUTER, controlled, identity, named

TASKS = ("sst2", "arc-e")


def grid(
    factory: ModuleType, rates: dict[str, float], seeds: Sequence[int] = (0, 1, 2), tasks: Sequence[str] = TASKS
) -> tuple[Any, Any]:
    """A mixer and rows of its controls, by label, with so many right answers of 100, a few of them by chance."""
    records, items = [], {}
    for method, rate in {"mixer": 0.6, **{_row(name): rate for name, rate in rates.items()}}.items():
        control = next((name for name in CONTROLS if named("mixer", name) == method), None)
        for task in tasks:
            for seed in seeds:
                right = round(100 * rate) + seed % 2
                record = factory.make_record(
                    method, task, seed, method_name="lora-router-data" if method == ROUTER_DATA else "mixer",
                    config={} if control is None else identity(control), n=100,
                )  # fmt: skip
                spec = record.spec.model_copy(update={"routing_fingerprint": "rows"})
                record = record.model_copy(update={"spec": spec})
                if method == ROUTER_DATA:
                    record = record.model_copy(update={"track": "joint"})
                records.append(record)
                items[record.cell] = factory.make_items([1.0] * right + [0.0] * (100 - right), task)
    return records, items


def _row(control: str) -> str:
    return ROUTER_DATA if control == ROUTER_DATA else named("mixer", control)


def notes(factory: ModuleType, *given: Any, controls: Sequence[str] = (), **more: Any) -> list[str]:
    table = comparison(*grid(factory, *given, **more), options=Options(controls=controls))
    return [note for note in table.notes if note.startswith("mixer ") and ("beat" in note or "is worse" in note)]


def test_a_row_says_whose_control_it_is() -> None:
    assert named("mixer[router.scope=global]", SHUFFLED_ROUTER) == "mixer[router.scope=global] · shuffled router"
    assert controlled(named("mixer", RANDOM_EXPERTS)) == "mixer"


def test_a_method_that_does_not_beat_its_control_is_told_of_with_the_difference(factory: ModuleType) -> None:
    (note,) = notes(factory, {RANDOM_EXPERTS: 0.6})
    assert note == "mixer does not beat random experts on the mean over tasks: +0.0 [0.0, 0.0]."
    (note,) = notes(factory, {RANDOM_EXPERTS: 0.59}, tasks=("sst2",))
    assert note.startswith("mixer does not beat random experts: +1.0 [−")


def test_a_method_that_beats_its_controls_is_told_of_too(factory: ModuleType) -> None:
    one, two = notes(factory, {RANDOM_EXPERTS: 0.3, SHUFFLED_ROUTER: 0.9})
    assert one.startswith("mixer beats random experts on the mean over tasks: +30.0 [")
    assert two.startswith("mixer is worse than shuffled router on the mean over tasks: −30.0 [−")


def test_few_seeds_decide_nothing(factory: ModuleType) -> None:
    (note,) = notes(factory, {RANDOM_EXPERTS: 0.3}, seeds=(0,))
    assert note.startswith("mixer is not shown to beat random experts on the mean over tasks: +30.0 [")
    assert note.endswith("] (fewer than 3 seeds decide nothing).")


def test_the_lora_on_the_routers_rows_is_a_control_where_it_was_asked_for(factory: ModuleType) -> None:
    assert notes(factory, {ROUTER_DATA: 0.3}) == []
    (note,) = notes(factory, {ROUTER_DATA: 0.3}, controls=[ROUTER_DATA])
    assert note.startswith("mixer beats lora-router-data on the mean over tasks: +30.0 [")


def test_what_a_control_is_stands_under_the_table_once(factory: ModuleType) -> None:
    table = comparison(*grid(factory, {RANDOM_EXPERTS: 0.3, SHUFFLED_ROUTER: 0.5}))
    said = [note for note in table.notes if note.startswith("Control, ")]
    assert [note.partition(":")[0] for note in said] == ["Control, random experts", "Control, shuffled router"]
    assert not any(note.startswith("Control, ") for note in comparison(*factory.make_grid(n=10)).notes)


def test_rows_of_controls_stand_behind_their_method_and_take_no_part_in_the_tables_tests(factory: ModuleType) -> None:
    records, items = grid(factory, {RANDOM_EXPERTS: 0.9})
    others, more = factory.make_grid(methods=("mole", "uniform"), tasks=TASKS, seeds=(0, 1, 2), n=100)
    with_, without = (
        comparison([*own, *others], {**items, **more}, options=Options(order=["mixer", "mole"]))
        for own in (records, [record for record in records if "·" not in record.spec.method])
    )
    rows = [row.key for _, row in with_.rows() if row.kind == "method"]
    assert rows == ["mixer", "mixer · random experts", "mole", "uniform"]
    assert with_.cell("mixer · random experts", "sst2").mark is None
    for method in ("mixer", "mole", "uniform"):
        for column in (*TASKS, MEAN, "verdict"):
            assert with_.cell(method, column) == without.cell(method, column)
    assert difference_table([*records, *others], {**items, **more}) == difference_table(
        [record for record in [*records, *others] if "·" not in record.spec.method], {**items, **more}
    )
    named_ = difference_table(records, items, ["mixer", "mixer · random experts"])
    assert next(row.label for _, row in named_.rows()) == "mixer − mixer · random experts"


@pytest.mark.parametrize("missing", TASKS)
def test_without_a_mean_single_tasks_are_told_of(factory: ModuleType, missing: str) -> None:
    records, items = grid(factory, {RANDOM_EXPERTS: 0.3})
    kept = [r for r in records if r.spec.method == "mixer" or r.spec.task != missing]
    (note,) = [one for one in comparison(kept, items).notes if one.startswith("mixer beats")]
    (left,) = set(TASKS) - {missing}
    assert note.startswith("mixer beats random experts: +30.0 ["), left
