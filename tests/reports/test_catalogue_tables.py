"""Tables of the catalogue with a reading of their own: sizes of data, costs, and what a scaled run says of itself."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from reports.catalogue import (
    Context,
    build,
    entries,
    entry,
    paper,
)
from reports.catalogue.build import proposed
from reports.efficiency import data_fractions, reach

T9 = ("mixer", "mixer-aux")


@pytest.mark.parametrize("labelled", [True, False])
def test_data_size_table_and_its_reading(factory: ModuleType, labelled: bool) -> None:
    records, items, variants = factory.make_data_sizes(labelled)
    table = build(entry("t9"), records, items, variants=variants)
    shown = [table.cell("mixer", key).value for key in ("32", "64", "128", "256")]
    assert shown == pytest.approx([50, 60, 65, 70])
    assert table.cell("published/mixer-aux", "4000").value == 79.14
    reading = next(note for note in table.notes if "reaches what" in note)
    # RSL reaches the 50 % of the plain loss at 64 with its first 32, and the 60 % of 128 with 64: half the data.
    assert "64: at most 50 % […, 50]" in reading  # its first amount: less may do
    assert "128: 50 %" in reading
    assert "256: 50 %" in reading
    differences = next(note for note in table.notes if note.startswith("mixer minus mixer-aux in points"))
    assert "64: +10.0 [" in differences


def test_scaled_labels_give_the_numbers(factory: ModuleType) -> None:
    records, items, variants = factory.make_data_sizes(True)
    budgets = {cell: int(labels[0].split("=")[1]) for cell, labels in variants.items()}
    records = [
        r.model_copy(
            update={"budget": r.budget.model_copy(update={"router_examples": budgets[r.cell], "router_tokens": 0})}
        )
        for r in records
    ]
    table = build(entry("t9"), records, items, variants=variants)
    (scaled,) = [note for note in table.notes if note.startswith("Scaled:")]
    assert "32, 64, 128, 256 examples for routers, at most 100 items a task" in scaled
    assert "one seed. Published on LLaMA-3-8B." in scaled
    assert any("that takes 3 seeds" in note for note in table.notes)
    assert not any("Bold: best" in note for note in table.notes)
    records, items = factory.make_grid(tasks=("sst2", "arc-e", "humaneval"), seeds=(0, 1), n=20)
    records = [
        r.model_copy(update={"budget": r.budget.model_copy(update={"eval_items": 20})})
        if r.spec.task == "humaneval"
        else r
        for r in records
    ]
    (scaled,) = [note for note in build(entry("t2"), records, items).notes if note.startswith("Scaled:")]
    assert "at most 100 items a task (at most 20 of humaneval), at most 128 new tokens, 2 seeds." in scaled
    assert "Published with rank 64, alpha 128, top-k 3 on Falcon-Mamba-7B, Mistral-7B, LLaMA-3-8B." in scaled
    full = [r.model_copy(update={"budget": r.budget.model_copy(update={"preset": "paper-llama3-8b"})}) for r in records]
    table = build(entry("t2"), full, items)
    assert "scaled" not in table.title
    assert any(note.startswith("Budget:") for note in table.notes)


def test_reach_interpolates_in_log_examples() -> None:
    assert reach([1000, 4000], np.array([0.0, 1.0]), 0.5) == pytest.approx(2000)
    assert reach([10, 20], np.array([0.9, 1.0]), 0.5) == 10
    assert reach([10, 20], np.array([0.1, 0.2]), 0.5) is None
    flat = {size: [np.full(50, 0.5)] for size in (10, 20)}
    better = {size: [np.full(50, 0.4)] for size in (10, 20)}
    assert [one.fraction for one in data_fractions(better, flat)] == [None, None]


def test_published_reading_of_the_data_fraction() -> None:
    """The published values give 48.3 % at 4,000 examples, not the 51.62 % of the abstract."""
    block = paper()["tables"]["t9"]["blocks"]["llama3-8b"]
    sizes = paper()["tables"]["t9"]["columns"]
    reached = reach(sizes, np.array(block["mixer"]), block["mixer-aux"][2])
    assert reached / 4000 == pytest.approx(0.4834, abs=0.0005)


def test_cost_tables(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("mole", "mixer"), tasks=("sst2", "gsm8k"), seeds=(0, 1, 2), n=20)
    time_table = build(entry("t12"), records, items)
    generated = [r for r in records if (r.spec.method, r.spec.task) == ("mole", "gsm8k")]
    expected = np.mean([r.cost.seconds["evaluate"] / 20 for r in generated])
    assert time_table.cell("mole", "time").value == pytest.approx(expected)
    assert time_table.cell("published/mole", "time").value == 0.563
    assert build(entry("t14"), records, items).cell("mixer", "memory").value == pytest.approx(1.9e9 / 2**30)
    stages = build(entry("t13"), records, items)
    assert stages.cell("fit/mixer", "tokens").value == 8000
    sizes = build(entry("t11"), records, items)
    assert sizes.cell("sst2", "expert-train").value == 400
    assert sizes.cell("sst2", "published train").value == 10000


def test_cost_tables_part_the_tracks(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=entry("t12").methods, tasks=("sst2", "gsm8k"), seeds=(0,), n=20)
    for name in ("t12", "t14"):
        frozen, joint, _ = build(entry(name), records, items).panels
        base = ["base"] if "base" in entry(name).methods else []
        assert [row.key for row in joint.rows] == [*base, "mixlora", "mixer-joint"]
        assert not {"mixlora", "mixer-joint"} & {row.key for row in frozen.rows}
        assert "mixer" in {row.key for row in frozen.rows}


def test_sizes_are_those_found_beside_the_official_ones(factory: ModuleType) -> None:
    official = {"train": 392_702, "validation_matched": 9815, "validation_mismatched": 9832, "test_matched": 9796}
    mnli = factory.make_record(
        "base", "mnli", data={"split_rows": {"train": 3000, "validation_matched": 9815}, "official_rows": official}
    )
    old = factory.make_record("base", "rte")
    table = build(entry("t11"), [mnli, old], {})
    assert table.cell("mnli", "rows train").text == "3,000 of 392,702"
    assert table.cell("mnli", "rows dev").text == "matched 9,815; mismatched official 9,832"
    assert table.cell("mnli", "rows test").text == "official 9,796"
    assert table.cell("rte", "rows train").text == "—", "records from before the counts were kept"
    assert [table.footnotes[key] for key in table.cell("sst2", "rows train").footnotes] == ["Not run."]
    small = Context(frozenset({"base"}), frozenset({"sst2", "mnli"}), source="the bundled data")
    table = build(entry("t11"), [mnli], {}, context=small)
    assert [table.footnotes[key] for key in table.cell("medqa", "dev").footnotes] == ["The bundled data has no medqa."]


def test_published_values_that_no_count_gives_carry_a_footnote() -> None:
    """28 of the 39 HumanEval cells are neither k/164 nor k/492."""
    marked = shown = 0
    for one in entries():
        if one.layout != "grid" or "humaneval" not in one.tasks:
            continue
        table = build(one, [], {})
        for panel in table.panels:
            for row in panel.rows:
                cell = row.cells.get("humaneval")
                if row.kind == "paper" and cell is not None and cell.value is not None:
                    shown += 1
                    marked += bool(cell.footnotes)
                    assert bool(cell.footnotes) != any(round(100 * k / 492, 2) == cell.value for k in range(493))
                    for key in cell.footnotes:
                        assert table.footnotes[key].startswith("No number of right answers gives this value")
    assert (marked, shown) == (28, 39)


@pytest.mark.parametrize("name", [one.name for one in entries() if proposed(one.methods)])
def test_methods_are_set_against_the_papers_own_before_other_readings_of_it(name: str) -> None:
    methods = entry(name).methods
    assert "[" not in proposed(methods)[0] or not {"mixer", "mixer-joint"} & set(methods)


def test_the_order_of_readings_does_not_decide_what_is_tested() -> None:
    assert proposed(["base", "mixer[loss.entropy.sign=-1]", "mole", "mixer"]) == [
        "mixer",
        "mixer[loss.entropy.sign=-1]",
    ]
