"""The catalogue: complete, honest about what is missing, and laid out from records."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from reports.api import ReportError, render
from reports.catalogue import (
    Context,
    UnknownEntryError,
    ablations,
    availability,
    build,
    companion,
    entries,
    entry,
    listing,
    paper,
)
from reports.plots.draw import save
from reports.plots.figure import Figure
from reports.ranking import MEAN
from reports.render import figures, latex
from reports.tables import Table
from results.schema import PlannedCell, RunInfo
from results.store import RunFolder

NAMES = [f"t{number}" for number in range(1, 23)] + [f"f{number}" for number in range(3, 7)]
T9 = ("mixer", "mixer-aux")


def everything() -> Context:
    methods = {method.split("[")[0] for one in entries() for method in one.methods}
    tasks = {task.split("@")[0] for one in entries() for task in one.tasks}
    return Context(frozenset(methods), frozenset(tasks))


def test_nothing_is_silently_missing() -> None:
    assert {one.name for one in entries()} == {*NAMES, "a4"}
    assert [row[0] for row in listing(everything())] == [one.name for one in entries()]
    assert set(paper()["tables"]) | set(paper()["figures"]) == set(NAMES)
    assert {one.name for one in ablations()} == {
        "data-size",
        "top-k",
        "alpha-lambda",
        "rank",
        "entropy-sign",
        "over-routers",
    }


def test_listing_is_quick() -> None:
    entries.cache_clear()
    start = time.process_time()
    listing(everything())
    assert time.process_time() - start < 0.5


def test_availability_names_what_stands_in_the_way() -> None:
    full = {one.name: availability(one, everything()).state for one in entries()}
    assert {name for name, state in full.items() if state == "not"} == {"t22"}
    assert {name for name, state in full.items() if state == "computed"} == {"t17", "a4"}
    small = Context(frozenset({"base", "mixer"}), frozenset({"sst2", "gsm8k"}), source="the bundled data")
    found = availability(entry("t2"), small)
    assert found.state == "partly"
    assert "2 of 8 methods on 2 of 7 tasks" in found.reason
    assert found.missing["medqa"] == "The bundled data has no medqa."
    assert "The bundled data has no medqa, cola, arc-e, arc-c, humaneval." in found.reason
    assert found.missing["mole"] == "mole is not a method of this installation."
    assert availability(entry("t16"), small).state == "not"
    assert "make-crossdomain" in availability(entry("t10"), small).reason
    assert "In shape only" in availability(entry("f5"), everything()).reason


def test_moved_methods_need_a_model_to_move_from() -> None:
    t5, here = entry("t5"), everything()
    assert availability(t5, here).state == "partly"
    reason = availability(t5, here).reason
    assert reason.startswith("1 of 2 methods on 5 of 5 tasks. It takes experts of another base model of equal shapes")
    assert "--transfer-from" in reason
    named = Context(here.methods, here.tasks, transfer_from="./other, one")
    moved = t5.taken_from("./other, one")
    assert moved.methods == ("base", 'mixer[transfer.from="./other, one"]')
    assert availability(moved, named).missing == {}
    assert availability(t5, Context(here.methods, here.tasks, t5.model or "")).state == "runnable"


def test_a_moved_row_is_found_whatever_it_was_moved_from(factory: ModuleType) -> None:
    records, items = [], {}
    for method in ("base", "mixer", "mixer[transfer.from=./other]"):
        record = factory.make_record(method, "arc-e", n=10, task_config={"shots": 0})
        records.append(record)
        items[record.cell] = factory.make_items([1.0] * 4 + [0.0] * 6)
    table = build(entry("t5"), records, items)
    rows = [row.key for _, row in table.rows() if row.kind in ("method", "reference")]
    assert rows == ["base", "mixer[transfer.from=./other]"]
    assert table.cell("mixer[transfer.from=./other]", "arc-e@0-shot").value == 40.0
    assert table.cell("published/mixer-from-mistral-7b", "arc-e@0-shot").value == 85.89


def test_needs_are_configurations_of_runs() -> None:
    small, full = entry("t9").needs(scaled=True), entry("t9").needs(scaled=False)
    assert [need.settings["routers.examples"] for need in small] == [32, 64, 128, 256]
    assert [need.settings["routers.examples"] for need in full] == [1000, 2000, 4000, 6000, 8000, 10000]
    assert small[0].variant == "t9:examples=32"
    assert small[0].settings["seeds"] == [0]
    (need,) = entry("t2").needs(scaled=True)
    assert (need.variant, need.settings) == ("t2", {"eval.generative_limit": 20})
    assert entry("t2").needs(scaled=False)[0].settings["experts.rank"] == 64
    assert entry("t17").needs(scaled=False) == []


def test_the_papers_scale_lists_options_and_gives_no_examples() -> None:
    for one in entries():
        for need in one.needs(scaled=False):
            # Table 3's public experts were trained on FLAN's prompts.
            assert need.settings["eval.prompt"] == ("flan" if one.name == "t3" else "letters")
            assert need.settings["eval.shots"] == 0
    assert "eval.prompt" not in entry("t2").needs(scaled=True)[0].settings


def test_top_k_always_leaves_an_expert_out() -> None:
    """Each k stays below the pool that goes with it: six experts in the paper and at the small scale."""
    assert len(entry("f5").needs(scaled=True)[0].settings["experts.names"]) == 6
    for scaled, pool in ((False, 6), (True, 6)):
        (need,) = entry("f5").needs(scaled=scaled)
        kept = [int(method.split("eval_k=")[1].split(",")[0]) for method in need.methods]
        assert max(kept) == pool - 1


def test_published_rows_and_settings_stay_with_the_transcription() -> None:
    """Every published block names methods and as many values as columns."""
    for one in entries():
        for rows in one.paper.get("blocks", {}).values():
            for values in rows.values():
                assert len(values) == len(one.paper["columns"])


@pytest.mark.parametrize("name", [*NAMES, "a4"])
def test_every_entry_renders_without_records(name: str) -> None:
    made = build(entry(name), [], {})
    if isinstance(made, Figure):
        assert made.empty()
    else:
        measured = [row for _, row in made.rows() if row.kind in ("method", "reference")]
        assert all(cell.value is None for row in measured for cell in row.cells.values())
        assert sum(1 for _ in made.rows()) > 0
    assert made.title.endswith(" of LoRA-Mixer)")


def test_main_comparison_has_two_panels_and_the_published_one(factory: ModuleType) -> None:
    records, items = factory.make_grid(
        methods=("base", "lora", "mixer", "mole", "mixer-joint", "mixlora"),
        tasks=("sst2", "gsm8k@0-shot"),
        seeds=(0, 1, 2),
        n=30,
        model="meta-llama/Meta-Llama-3-8B",
        task_config={"shots": 0},
    )
    table = build(entry("t2"), records, items, context=everything())
    kinds = [panel.key.split("/")[-1] for panel in table.panels]
    assert kinds == ["compose", "joint", "oracle", "llama3-8b"]
    assert [column.key for column in table.columns][:7] == list(entry("t2").tasks)
    assert table.cell("mixer", "gsm8k").value is not None
    assert table.cell("published/mixer", "gsm8k").value == 65.53
    assert table.cell("published/mixer", MEAN).value == pytest.approx((95.41 + 65.53) / 2)
    assert "Means are over sst2, gsm8k." in table.notes
    assert build(entry("t2"), [], {}).cell("published/mixer", MEAN, "published/llama3-8b").value == pytest.approx(
        79.31, abs=0.005
    )
    assert table.cell("lorahub", "sst2").value is None
    footnotes = [table.footnotes[key] for key in table.cell("lorahub", "sst2").footnotes]
    assert footnotes == ["Not run."]
    for _, row in table.rows():
        if row.kind == "paper":
            assert all(cell.mark is None and cell.low is None and not cell.runs for cell in row.cells.values())
    text = "\n".join(table.notes)
    assert table.title == "Main comparison on seven benchmarks (Table 2 of LoRA-Mixer, scaled)"
    assert "Scaled: preset quick: 12,000 training tokens" in text
    assert "Budget:" not in text
    assert [note[:16] for note in table.notes if "Bold:" in note] == ["Frozen experts. ", "Experts trained "]
    assert "rank 64" in text
    assert "On the paper: The paper's equations reward the entropy" in text


def test_columns_that_name_shots_take_only_those(factory: ModuleType) -> None:
    records, items = [], {}
    for shots, right in ((0, 3), (5, 9)):
        record = factory.make_record("base", f"gsm8k@{shots}-shot", n=10, task_config={"shots": shots})
        records.append(record)
        items[record.cell] = factory.make_items([1.0] * right + [0.0] * (10 - right))
    table = build(entry("t5"), records, items)
    values = [table.cell("base", column.key).value for column in table.columns[:3]]
    assert values == [30.0, None, 90.0]


def test_weights_of_rsl(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=entry("t15").methods, tasks=("sst2", "arc-e"), seeds=(0,), n=20)
    table = build(entry("t15"), records, items)
    method = entry("t15").methods[0]
    routing = [r.routing for r in records if r.spec.method == method]
    entropy = np.mean([d.entropy for d in routing]) * np.log(4)
    assert table.cell(method, "routing_entropy").value == pytest.approx(entropy)
    assert table.cell("published/alpha=0.1 lambda=0.05", MEAN).value == 78.5


def test_figures_from_records(factory: ModuleType) -> None:
    tasks = ("sst2", "gsm8k", "arc-e", "arc-c")
    records, items = factory.make_grid(methods=T9, tasks=tasks, n=10)
    overall = build(entry("f3"), records, items)
    (bars,) = overall.axes[0].series
    assert sum(bars.y) == pytest.approx(len(bars.y))
    mean = np.mean([r.routing.load for r in records if r.spec.method == "mixer"], axis=0)
    assert bars.y == pytest.approx(tuple(len(mean) * mean / mean.sum()))
    by_task = build(entry("f4"), records, items)
    assert [axes.title for axes in by_task.axes] == [*T9, "mixer − mixer-aux"]  # the other reading was not run
    assert [series.name for series in by_task.axes[0].series] == ["gsm8k"]
    balance = build(entry("f6"), records, items)
    assert balance.axes[0].series[0].y[0] == pytest.approx(records[0].training_log[0]["aux"])
    assert "mixer,1.0," in balance.csv()


def test_loss_tables_stand_under_both_readings() -> None:
    """Each method of a table of losses that adds them up has a row with the other reading of how."""
    for name in ("t8", "t9", "t15", "f4", "f6"):
        one = entry(name)
        other = [m for m in one.methods if "over_routers" in m]
        assert {"mixer"} <= {m.split("[")[0] for m in other}, name
        assert any("open point 29" in note for note in one.notes), name


def test_specialisation_stands_beside_the_paper(factory: ModuleType) -> None:
    """Entropy, extreme loads and own-expert mass by method are means over tasks; Table 15's entropies are the band."""
    one = next(one for one in ablations() if one.name == "over-routers")
    records, items = factory.make_grid(methods=one.methods[:3], tasks=("sst2", "gsm8k"), seeds=(0, 1), n=10)
    figure = build(one, records, items)
    entropy, load, own = figure.axes
    routing = [r.routing for r in records if r.spec.method == one.methods[1]]
    assert entropy.series[0].x == one.methods[:3]
    assert entropy.series[0].y[1] == pytest.approx(np.mean([d.entropy for d in routing]))
    assert (entropy.references[0].value, entropy.references[0].high) == pytest.approx(
        (1.2 / np.log2(6), 1.9 / np.log2(6))
    )
    least, most = (series.y[1] for series in load.series)
    shares = np.mean([np.array(d.load) / sum(d.load) for d in routing], axis=0)
    assert least <= 100 * shares.min() + 1e-9
    assert most >= 100 * shares.max() - 1e-9
    masses = [d.own_expert_mass for d in routing if d.own_expert_mass is not None]
    assert own.series[0].y[1] == pytest.approx(100 * np.mean(masses))
    assert "(Figure 4)" in " ".join(figure.notes)
    assert build(one, [], items).empty()


def test_ablations_have_pictures(factory: ModuleType) -> None:
    variants = next(one for one in ablations() if one.name == "entropy-sign")
    records, items = factory.make_grid(methods=variants.methods, n=10)
    table = build(variants, records, items)
    bars, entropy = companion(variants, table, records).axes
    assert [series.name for series in bars.series] == [
        row.label for row in table.panels[0].rows if row.kind == "method"
    ]
    mixer = next(series for series in bars.series if series.name == "mixer")
    assert mixer.y[0] == table.cell("mixer", "sst2").value
    assert mixer.x == ("sst2", "mrpc", "arc-e", "mean")
    assert {series.name for series in entropy.series} == set(variants.methods) - {"uniform"}
    ranks = next(one for one in ablations() if one.name == "rank")
    assert build(ranks, [], {}).cell("published/mixer", "64").value == pytest.approx(79.31, abs=0.005)


def one_item_changed(records, items):
    target = next(r for r in records if (r.spec.method, r.spec.task, r.spec.seed) == ("mixer", "gsm8k", 1))
    first, *rest = items[target.cell]
    other = first.model_copy(update={"metrics": {"acc": 1.0 - first.metrics["acc"]}})
    return {**items, target.cell: [other, *rest]}


def test_one_item_moves_its_tables_and_no_other(factory: ModuleType) -> None:
    """The outcome of one gsm8k item of `mixer` moves each table that holds that cell, in its row alone."""
    methods = sorted({m for name in ("t2", "t18", "t8", "t14") for m in entry(name).methods})
    records, items = factory.make_grid(methods, ("sst2", "gsm8k", "arc-e"), (0, 1), n=20)
    changed = one_item_changed(records, items)
    moved = {}
    for one in entries():
        before, after = build(one, records, items), build(one, records, changed)
        if isinstance(before, Figure):
            moved[one.name] = {"f"} if before != after else set()
            continue
        moved[one.name] = {
            (row.key, column.key)
            for panel, row in before.rows()
            for column in before.columns
            for old, new in [(row.cell(column.key), after.cell(row.key, column.key, panel.key))]
            if column.key in row.cells
            and (old.value, old.low, old.high, old.std) != (new.value, new.low, new.high, new.std)
        }
    holders = {name for name, cells in moved.items() if cells}
    assert holders == {
        one.name
        for one in entries()
        if one.layout == "grid" and "mixer" in one.methods and any(task.split("@")[0] == "gsm8k" for task in one.tasks)
    }
    assert all(cells == {("mixer", "gsm8k"), ("mixer", MEAN)} for name, cells in moved.items() if cells)


def test_render_writes_tables_and_figures_of_the_catalogue(factory: ModuleType, stored) -> None:
    records, items = factory.make_grid(methods=("base", "mixer"), tasks=("sst2", "gsm8k"), seeds=(0,), n=10)
    run = stored(records, items)
    assert [path.name for path in render(run, "t2")] == ["t2.tex", "t2.md", "t2.csv"]
    assert [path.name for path in render(run, "pareto", ["md"])] == ["pareto.pdf", "pareto.png", "pareto.md"]
    names = [path.name for path in render(run, "f3", ["latex", "csv"])]
    assert names == ["f3.pdf", "f3.png", "f3.tex", "f3.csv"]
    records, items, _ = factory.make_data_sizes(False)
    names = [path.name for path in render(stored(records, items), "data-size", ["md"])]
    assert names == ["data-size.md", "data-size-plot.pdf", "data-size-plot.png"]
    with pytest.raises(UnknownEntryError, match="did you mean t3"):
        render(run, "t3x")
    with pytest.raises(UnknownEntryError):
        entry("nothing-like-it")
    with pytest.raises(ReportError, match="nothing for the plot 'load'; it has pareto"):
        render(stored(*factory.make_grid(methods=("base", "lora"), n=5)), "load")


def test_planned_labels_keep_entries_apart(factory: ModuleType, tmp_path: Path) -> None:
    """A run that planned two entries gives each its own cells, shared ones to both."""
    records, items = factory.make_data_sizes(True)[:2]
    labels = [f"t9:examples={record.spec.training['note']}" for record in records]
    cells = [
        PlannedCell(cell=r.cell, method=r.spec.method, task=r.spec.task, seed=0, variant=label)
        for r, label in zip(records, labels, strict=True)
    ]
    cells.append(cells[0].model_copy(update={"variant": "t2"}))
    run = RunFolder.create(tmp_path / "run", RunInfo(name="x", cells=cells))
    for record in records:
        run.write_cell(record, items[record.cell])
    assert len(run.records()) == len(records)
    render(run.path, "t2", ["csv"])
    render(run.path, "t9", ["csv"])
    t2 = (run.path / "reports" / "t2.csv").read_text()
    assert "50.0" in t2
    assert "70.0" not in t2
    assert "70.0" in (run.path / "reports" / "t9.csv").read_text()


def test_methods_and_tasks_that_were_planned_for_an_entry_join_its_own(factory: ModuleType) -> None:
    records, items = factory.make_grid(methods=("mixer", "phatgoose"), tasks=("sst2", "rte"), n=5)
    planned = {record.cell: ["t2"] for record in records}
    table = build(entry("t2"), records, items, variants=planned)
    assert isinstance(table, Table)
    assert "rte" in [column.key for column in table.columns]
    assert table.cell("phatgoose", "sst2").value is not None
    elsewhere = build(entry("t2"), records, items, variants={record.cell: ["t8"] for record in records})
    assert isinstance(elsewhere, Table)
    assert "rte" not in [column.key for column in elsewhere.columns]


@pytest.mark.system
def test_every_table_and_figure_compiles(
    factory: ModuleType, tmp_path: Path, compile_latex: Callable[[str], Path]
) -> None:
    records, items = factory.make_grid(tasks=("sst2", "mrpc", "arc-e", "gsm8k"), n=20)
    made = [build(one, records, items) for one in entries()]
    source = latex.document(*[table for table in made if isinstance(table, Table)])
    for figure in made:
        if isinstance(figure, Figure):
            if not figure.empty():
                save(figure, tmp_path, ["pdf"])
            source = source.replace(r"\end{document}", figures.latex(figure) + r"\clearpage\end{document}")
    compile_latex(source)
