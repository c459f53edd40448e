"""Means over tasks by the value of a setting: of the seeds that all tasks have, compared on the items in common."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from reports.catalogue import build, entry
from reports.catalogue.select import by_axis
from reports.catalogue.series import common_grids, curves, differences, mean_tests
from reports.evidence import Evidence
from reports.loss_checks import top_k
from reports.ranking import Question
from reports.scores import gather, on_shared_seeds
from reports.tables import Table
from results.schema import Item, Record
from tests.reports.factory import make_data_sizes, make_grid, make_items, make_record

SEEDS = (0, 1, 2)
TASKS = ("sst2", "arc-e")
LOST = (("mixer", "sst2", 1), ("mixer", "sst2", 0), ("mixer-aux", "arc-e", 1))
Run = tuple[list[Record], dict[str, list[Item]]]


def unscored(items: list[Item]) -> list[Item]:
    """Every second item without a verdict."""
    return [one.model_copy(update={"metrics": {"acc": None}}) if n % 2 else one for n, one in enumerate(items)]


def twins() -> Run:
    """A method and its copy, which lacks half of the verdicts on one task, by the number of routing examples."""
    records, items, _ = make_data_sizes(labelled=False)
    place = {(r.spec.method, r.spec.task, r.spec.training["examples"]): r.cell for r in records}
    for (method, task, examples), cell in place.items():
        if method == "mixer-aux":
            own = items[place["mixer", task, examples]]
            items[cell] = unscored(own) if task == "sst2" else own
    return records, items


def by_seed(lost: tuple[str, str, int] | None = None) -> Run:
    """Two methods with as many right answers on either task; a seed moves both tasks and methods alike."""
    records, items = [], {}
    for method in ("mixer", "mixer-aux"):
        for task in TASKS:
            for seed, right in zip(SEEDS, (20, 90, 50), strict=True):
                if (method, task, seed) != lost:
                    record = make_record(method, task, seed, n=100, training={"examples": 32})
                    records.append(record)
                    items[record.cell] = make_items([1.0] * right + [0.0] * (100 - right), task)
    return records, items


def as_numbers_of_experts(records: list[Record]) -> list[Record]:
    """The same as three experts a token and two, on the tasks of Figure 5."""
    found = []
    for record in records:
        k, task = (3 if record.spec.method == "mixer" else 2), entry("f5").tasks[TASKS.index(record.spec.task)]
        names = {"method": f"mixer[route.eval_k={k},route.train_k={k}]", "task": task, "task_name": task}
        spec = record.spec.model_copy(update={**names, "method_config": {"route": {"eval_k": k}}})
        found.append(record.model_copy(update={"spec": spec}))
    return found


def test_a_method_does_not_differ_from_its_copy_where_verdicts_lack() -> None:
    (axes,), _ = differences(entry("t9"), *twins(), {})
    (line,) = axes.series
    assert (line.name, line.x) == ("mixer − mixer-aux", (32.0, 64.0, 128.0, 256.0))
    assert line.y == pytest.approx((0.0, 0.0, 0.0, 0.0))


def test_curves_of_a_metric_of_all_items_are_of_the_items_that_every_point_has() -> None:
    """Every third item's right answer is no."""
    records, items, _ = make_data_sizes(labelled=False)
    turned = {"yes": "no", "no": "yes"}
    for own in items.values():
        for place in range(0, len(own), 3):
            own[place] = own[place].model_copy(update={"gold": "no", "prediction": turned[own[place].prediction]})
    items[records[0].cell] = items[records[0].cell][50:]
    (grid,) = common_grids(entry("t9"), by_axis(entry("t9"), records, {}), items, "mcc").values()
    found = curves(entry("t9"), *grid)
    assert found is not None
    (mixer, plain), groups = found
    assert len(groups) == 150 + 200
    for record in records:
        curve = mixer if record.spec.method == "mixer" else plain
        shown = curve[record.spec.training["examples"]][TASKS.index(record.spec.task)]
        kept = [item for item in items[record.cell] if f"{record.spec.task}/{item.id}" in groups]
        assert shown.mean() == pytest.approx(
            matthews_corrcoef(*zip(*((i.gold, i.prediction) for i in kept), strict=True))
        )


def test_tasks_weigh_alike_on_the_items_in_common() -> None:
    records, items = make_grid(("mixer", "mole"), TASKS, SEEDS, n=60, rates={"mixer": 0.8})
    items |= {r.cell: unscored(items[r.cell]) for r in records if (r.spec.method, r.spec.task) == ("mole", "sst2")}
    scores = gather(records, items)
    by_method = {m: {k.task: one for k, one in scores.items() if k.method == m} for m in ("mixer", "mole")}
    (test,) = mean_tests(by_method, Question("mixer")).values()
    sst2 = by_method["mixer"]["sst2"].values[:, ::2].mean() - by_method["mole"]["sst2"].values.mean()
    arc = by_method["mixer"]["arc-e"].values.mean() - by_method["mole"]["arc-e"].values.mean()
    assert test.difference == pytest.approx((sst2 + arc) / 2)
    assert [task.items for task in test.tasks] == [30, 60]


@pytest.mark.parametrize("lost", LOST)
def test_a_seed_that_failed_on_one_task_is_left_out_of_the_mean(lost: tuple[str, str, int]) -> None:
    """By its name: the seeds of the other task do not move up."""
    table = build(entry("t9"), *by_seed(lost))
    assert isinstance(table, Table)
    rates = {0: 20, 1: 90, 2: 50}
    cells = {method: table.cell(method, "32") for method in ("mixer", "mixer-aux")}
    kept = [rates[seed] for seed in SEEDS if seed != lost[2]]
    assert (cells[lost[0]].value, cells[lost[0]].seeds) == (pytest.approx(np.mean(kept)), 2)
    assert cells[lost[0]].std == pytest.approx(np.std(kept, ddof=1))
    (axes,), _ = differences(entry("t9"), *by_seed(lost), {})
    assert axes.series[0].y == pytest.approx((0.0,))


def test_what_no_seed_changes_needs_no_seed_in_common() -> None:
    records, items = make_grid(("base",), TASKS, SEEDS, n=20)
    once = [record for record in records if record.spec.task == "sst2" or record.spec.seed == 1]
    shared = on_shared_seeds({key.task: one for key, one in gather(once, items).items()})
    assert {task: one.seeds for task, one in shared.items()} == {"sst2": SEEDS, "arc-e": (1,)}


def test_without_a_seed_in_common_there_is_no_mean() -> None:
    records, items = by_seed()
    apart = [record for record in records if (record.spec.seed == 0) == (record.spec.task == "sst2")]
    table = build(entry("t9"), apart, items)
    assert isinstance(table, Table)
    assert table.cell("mixer", "32").value is None
    assert differences(entry("t9"), apart, items, {}) == ([], "")


@pytest.mark.parametrize(("lost", "seeds"), [(None, 3), *((one, 2) for one in LOST)])
def test_numbers_of_experts_are_compared_on_the_seeds_that_all_tasks_have(
    lost: tuple[str, str, int] | None, seeds: int
) -> None:
    records, items = by_seed(lost)
    claim = top_k(Evidence(as_numbers_of_experts(records), items, {}))
    assert (claim.measured, claim.ran) == ("k=3: +0.0 to k=2", f"k = 2, 3 on sst2, cola ({seeds} seeds)")


def test_numbers_of_experts_without_a_seed_in_common_are_not_compared() -> None:
    records, items = by_seed()
    apart = [record for record in records if (record.spec.seed == 0) == (record.spec.task == "sst2")]
    assert top_k(Evidence(as_numbers_of_experts(apart), items, {})).verdict == "not measured"
