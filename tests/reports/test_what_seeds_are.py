"""Seeds of a row differ in the seed alone, and means over tasks are over the seeds that all tasks have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import api
from reports.comparison import comparison, families
from reports.differences import difference_table
from reports.panel import Options, asked
from reports.ranking import MEAN
from reports.scores import gather, grouped, with_common_seeds
from results.ground.digest import digest
from results.ground.names import UnknownName
from results.merging import merge
from results.schema import Item, PlannedCell, Record, RunInfo
from results.store import RunFolder
from tests.reports.factory import make_grid, make_items, make_record

Run = tuple[list[Record], dict[str, list[Item]]]
SEEDS = range(5)
RIGHT = {0: 10, 1: 18, 2: 20, 3: 22, 4: 30}
"""Items of forty that each seed has right."""


def drawn(method: str, task: str, seed: int, right: int, n: int = 40, **fields: Any) -> tuple[Record, list[Item]]:
    """A trained cell with `right` of `n` items right."""
    values = [1.0] * right + [0.0] * (n - right)
    record = make_record(method, task, seed, n=n, value=right / n, **fields)
    return record, make_items(values, task)


def run_of(*cells: tuple[Record, list[Item]]) -> Run:
    return [record for record, _ in cells], {record.cell: items for record, items in cells}


def fixed(method: str, task: str, right: int) -> tuple[Record, list[Item]]:
    record, items = drawn(method, task, 0, right)
    return record.model_copy(update={"extra": {"settled": True}}), items


class TestSettings:
    """One method with several settings is several rows, whichever seeds they have."""

    @pytest.fixture
    def run(self) -> Run:
        many = [drawn("mixer", "sst2", seed, 30, training={"tokens": 32_000}) for seed in (0, 1, 2)]
        few = [drawn("mixer", "sst2", seed, 0, training={"tokens": 100}) for seed in (3, 4, 5)]
        return run_of(*many, *few, fixed("base", "sst2", 20))

    def test_seeds_of_other_settings_are_no_seeds_of_the_row(self, run: Run) -> None:
        found = {key.method: [record.spec.seed for record in group] for key, group in grouped(run[0]).items()}
        assert found == {"mixer (tokens=32000)": [0, 1, 2], "mixer (tokens=100)": [3, 4, 5], "base": [0]}

    def test_a_limit_is_a_setting(self) -> None:
        cells = [drawn("mixer", "sst2", 0, 30), drawn("mixer", "sst2", 1, 5, n=10, task_config={"limit": 10})]
        first, second = gather(*run_of(*cells)).values()
        assert (len(first.ids), first.unscored, len(second.ids), second.unscored) == (40, 0, 10, 0)

    def test_experts_of_another_seed_are_no_setting(self) -> None:
        record, _ = drawn("mixer", "sst2", 1, 30)
        spec = record.spec.model_copy(update={"pool": {"sst2": digest("another seed's")}})
        other = record.model_copy(update={"spec": spec, "cell": digest(spec)})
        assert len(grouped([drawn("mixer", "sst2", 0, 30)[0], other])) == 1

    def test_a_method_stands_for_all_its_settings(self, run: Run, tmp_path: Path) -> None:
        opened = api.Run.open(written(tmp_path / "run", run))
        rows = [row.label for _, row in api.compared(opened, ["mixer", "base"]).rows()]
        assert rows == ["mixer (tokens=32000) − mixer (tokens=100)", "mixer (tokens=32000) − base"]
        with pytest.raises(UnknownName, match="Unknown method 'mixe'"):
            api.compared(opened, ["mixe", "base"])


class TestMeans:
    """A seed that some task lacks is in no mean over tasks."""

    @pytest.fixture
    def run(self) -> Run:
        """Seed 0 is missing on one task and seed 4 on another: by position, neighbours would be paired."""
        cells = [
            drawn("mixer", task, seed, right)
            for task, lacks in (("sst2", 0), ("arc-e", 4), ("piqa", None))
            for seed, right in RIGHT.items()
            if seed != lacks
        ]
        return run_of(*cells, *(fixed("base", task, 18) for task in ("sst2", "arc-e", "piqa")))

    def test_a_cell_is_the_mean_of_common_seeds_and_says_so(self, run: Run) -> None:
        table = comparison(*run)
        row = next(row for _, row in table.rows() if row.key == "mixer")
        cell = row.cells[MEAN]
        assert cell.value == pytest.approx(50)
        assert cell.std == pytest.approx(5)
        assert [table.footnotes[key] for key in cell.footnotes] == ["3 of 5 seeds, those that all tasks have."]

    def test_a_test_pairs_seeds_by_name(self, run: Run) -> None:
        (tested,) = families(*run)
        test = tested.tests.tests[MEAN, "mixer", "base"]
        assert test.n_seeds == 3
        assert 100 * test.difference == pytest.approx(50 - 45)

    def test_what_no_seed_changes_has_no_seeds_to_lack(self, run: Run) -> None:
        scores = {key: one for key, one in gather(*run).items() if key.method == "base"}
        assert with_common_seeds(list(scores.values())) == list(scores.values())

    def test_one_draw_on_a_task_is_not_taken_for_five(self) -> None:
        cells = [drawn("mixer", "sst2", seed, right) for seed, right in RIGHT.items()]
        cells.append(drawn("mixer", "arc-e", 0, 20))
        table = comparison(*run_of(*cells, fixed("base", "sst2", 18), fixed("base", "arc-e", 18)))
        row = next(row for _, row in table.rows() if row.key == "mixer")
        said = {column: [table.footnotes[key] for key in row.cells[column].footnotes] for column in ("arc-e", MEAN)}
        assert row.cells[MEAN].value == pytest.approx(100 * (10 + 20) / 80)
        assert row.cells[MEAN].std is None
        assert "1 of 5 seeds, those that all tasks have." in said[MEAN]

    def test_without_a_common_seed_there_is_no_mean(self) -> None:
        cells = [drawn("mixer", "sst2", 0, 20), drawn("mixer", "arc-e", 1, 20)]
        run = run_of(*cells, fixed("base", "sst2", 18), fixed("base", "arc-e", 18))
        table = comparison(*run)
        cell = next(row for _, row in table.rows() if row.key == "mixer").cells[MEAN]
        assert cell.value is None
        assert [table.footnotes[key] for key in cell.footnotes] == ["No seed that all tasks have."]
        assert all(column != MEAN for column, _, _ in families(*run)[0].tests.tests)


class TestTasksOfAMean:
    """Which tasks a mean is over does not depend on which rows are compared."""

    @pytest.fixture
    def run(self) -> Run:
        """Only `lora` gets anything right on gsm8k."""
        methods = ("base", "uniform", "mixer", "lora")
        records, items = make_grid(methods, ("sst2", "arc-e"), seeds=(0,))
        hard = [drawn(method, "gsm8k", 0, 12 if method == "lora" else 0) for method in methods]
        more = run_of(*hard)
        return records + more[0], items | more[1]

    def test_compare_and_report_have_one_mean(self, run: Run) -> None:
        column = next(column for column in comparison(*run).columns if column.key == MEAN)
        (tested,) = families(*run, methods=["mixer", "uniform"])
        assert tested.tests.mean_of == column.of == ("sst2", "arc-e", "gsm8k")

    def test_compare_says_what_it_leaves_out(self, run: Run) -> None:
        records = [record for record in run[0] if record.spec.method != "lora"]
        notes = difference_table(records, run[1], ["mixer", "uniform"]).notes
        assert "Means are over sst2, arc-e." in notes
        assert any(note.startswith("Not in the mean: gsm8k, where every row is at the floor") for note in notes)

    def test_one_answer_to_every_item_is_no_floor_of_likelihoods(self, run: Run) -> None:
        records, items = run
        alike = {
            record.cell: [
                item.model_copy(
                    update={
                        "prediction": "yes",
                        "gold": ("yes", "no")[index % 2],
                        "extra": {"gold_index": index % 2, "predicted_index": 0},
                    }
                )
                for index, item in enumerate(items[record.cell])
            ]
            for record in records
            if record.spec.task == "arc-e"
        }
        (tested,) = families(records, items | alike, ["mixer", "uniform"], Options(metric="gold_logprob"))
        assert "arc-e" in tested.tests.mean_of


def written(folder: Path, run: Run) -> Path:
    cells = [PlannedCell(cell=r.cell, method=r.spec.method, task=r.spec.task, seed=r.spec.seed) for r in run[0]]
    stored = RunFolder.create(folder, RunInfo(name=folder.name, cells=cells))
    for record in run[0]:
        stored.write_cell(record, run[1].get(record.cell, []))
    return folder


class TestSeveralRuns:
    """A cell that one of several runs has finished is finished, in whatever order they are named."""

    @pytest.fixture
    def runs(self, tmp_path: Path) -> tuple[Path, Path]:
        done = run_of(*(drawn("mixer", "sst2", seed, 30) for seed in SEEDS), fixed("base", "sst2", 20))
        failed = [
            record.model_copy(update={"status": "failed", "error": "no memory.", "metrics": {}}) if n < 3 else record
            for n, record in enumerate(done[0])
        ]
        kept = {record.cell: done[1][record.cell] for record in failed if record.status == "done"}
        return written(tmp_path / "failed", (failed, kept)), written(tmp_path / "done", done)

    @pytest.mark.parametrize("turned", [False, True])
    def test_the_finished_one_counts(self, runs: tuple[Path, Path], turned: bool, tmp_path: Path) -> None:
        order = runs[::-1] if turned else runs
        opened = api.Run.open(*order)
        assert [record.status for record in opened.records].count("done") == 6
        assert all(len(opened.items[record.cell]) == 40 for record in opened.records)
        merged = merge(order, tmp_path / "merged")
        assert {record.cell: record.status for record in merged.records()} == dict.fromkeys(
            (record.cell for record in opened.records), "done"
        )

    def test_a_cell_that_one_run_only_plans_is_read_from_the_other(self, runs: tuple[Path, Path]) -> None:
        planned = RunFolder.open(runs[0])
        for entry in (runs[0] / "cells").iterdir():
            for file in entry.iterdir():
                file.unlink()
            entry.rmdir()
        assert not planned.records()
        opened = api.Run.open(*runs)
        assert np.mean([len(opened.items[record.cell]) for record in opened.records]) == 40


def test_named_methods_are_asked_about_themselves(tmp_path: Path) -> None:
    """The first against the others, where the run's own declared row is not among them."""
    records, items = make_grid(("uniform", "mixer", "mole"), ("sst2",), seeds=(0,))
    folder = written(tmp_path / "run", (records, items))
    opened = api.Run.open(folder)
    rows = [row.label for _, row in api.compared(opened, ["uniform", "mole"]).rows()]
    assert rows == ["uniform − mole"]
    rows = [row.label for _, row in api.compared(opened, ["uniform", "mole"], asked(against="mole")).rows()]
    assert rows == ["mole − uniform"]
