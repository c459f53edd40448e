"""Metrics beside accuracy, from stored log-likelihoods and answers, against scikit-learn and scipy."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from reports.api import Run, build_report, compare, compared
from reports.catalogue import companion, entry
from reports.cells import score_interval
from reports.comparison import Options, comparison
from reports.differences import difference_table
from reports.errors import ReportError
from reports.outcomes import Counted, derived, pseudo_values, resampled
from reports.scores import align, available, gather
from reports.tables import Table
from results.schema import Item, Record

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
SKLEARN = {
    "f1": metrics.f1_score,
    "mcc": metrics.matthews_corrcoef,
    "balanced_acc": metrics.balanced_accuracy_score,
}


def choice_item(likelihoods: list[float], gold: int, name: str = "x") -> Item:
    chosen = int(np.argmax(likelihoods))
    return Item(
        id=name,
        prompt="?",
        choices=[" a", " b", " c"][: len(likelihoods)],
        outputs=[[value, False] for value in likelihoods],
        gold="abc"[gold],
        prediction="abc"[chosen],
        metrics={"acc": float(chosen == gold)},
    )


def test_likelihood_of_the_gold_choice() -> None:
    item = choice_item([-3.0, -1.0, -2.0], 2)
    assert derived(item, "gold_logprob") == pytest.approx(special.log_softmax([-3.0, -1.0, -2.0])[2])
    assert derived(item, "gold_margin") == pytest.approx(-1.0)
    assert derived(item.model_copy(update={"outputs": ["a text", "another"]}), "gold_logprob") is None
    without_text = item.model_copy(update={"choices": None, "extra": {"gold_index": 0}})
    assert derived(without_text, "gold_margin") == pytest.approx(-2.0)


@pytest.mark.parametrize("metric", SKLEARN)
def test_metrics_of_all_items_equal_sklearn(metric: str) -> None:
    generator = np.random.default_rng(0)
    gold = generator.integers(0, 2, 200)
    chosen = np.where(generator.random((3, 200)) < 0.8, gold, 1 - gold)
    counted = Counted(metric, np.stack([np.broadcast_to(gold, (3, 200)), chosen], axis=2))
    expected = [SKLEARN[metric](gold, row) for row in chosen]
    assert counted.value() == pytest.approx(np.mean(expected))
    values = pseudo_values(counted)
    assert values.mean(axis=1) == pytest.approx(expected)
    # Their spread over items is that of the metric: jackknife and bootstrap agree.
    assert values.mean(axis=0).std(ddof=1) / np.sqrt(200) == pytest.approx(resampled(counted).std(), rel=0.1)


def likelihood_run(gap: float, seeds: int = 3, n: int = 200) -> tuple[list[Record], dict[str, list[Item]]]:
    """Two methods whose gold likelihoods differ by `gap` nats, too little to change many answers."""
    from tests.reports import factory

    records, items = [], {}
    ease = np.random.default_rng(1).normal(0.3, 1, n)
    golds = np.random.default_rng(2).integers(0, 2, n)
    for method, ahead in (("mixer", gap), ("mole", 0.0)):
        for seed in range(seeds):
            noise = np.random.default_rng(10 * seed + len(method)).normal(0, 0.05, n)
            record = factory.make_record(method, "sst2", seed, n=n)
            records.append(record)
            items[record.cell] = [
                choice_item([float(x), 0.0] if g == 0 else [0.0, float(x)], int(g), str(i))
                for i, (x, g) in enumerate(zip(ease + ahead + noise, golds, strict=True))
            ]
    return records, items


def test_likelihoods_tell_apart_what_accuracy_does_not(stored) -> None:
    run = stored(*likelihood_run(0.03))
    accuracy = compare([run], ["mixer", "mole"]).panels[0].rows[0].cells
    likelihood = compare([run], ["mixer", "mole"], Options(metric="gold_logprob"))
    assert accuracy["verdict"].text == "undecided"
    assert likelihood.panels[0].rows[0].cells["verdict"].text == "mixer better"
    assert likelihood.columns[1].unit == "nats"
    assert "Metric: gold_logprob." in likelihood.notes


@pytest.mark.parametrize("metric", SKLEARN)
def test_metrics_of_all_items_are_compared_on_the_items_in_common(metric: str) -> None:
    """What an item adds to a metric depends on which others there are."""
    records, items = likelihood_run(0.5, seeds=2, n=60)
    kept = {"mixer": slice(0, 45), "mole": slice(20, 60)}
    items = {record.cell: items[record.cell][kept[record.spec.method]] for record in records}
    a, b = gather(records, items, metric).values()
    for one, found in zip((a, b), align(a, b), strict=True):
        answered = one.counted.answers[:, [place for place, name in enumerate(one.ids) if 20 <= int(name) < 45]]
        expected = [SKLEARN[metric](seed[:, 0], seed[:, 1]) for seed in answered]
        assert found.shape == (2, 25)
        assert found.mean(axis=1) == pytest.approx(expected)
    assert align(a, a)[0] is a.values
    nothing = gather(records, {cell: own[:20] for cell, own in items.items()}, metric)
    assert [found.shape for found in align(*nothing.values())] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("metric", ["f1", "mcc", "balanced_acc", "gold_logprob", "gold_margin"])
def test_every_metric_has_a_column_with_intervals(metric: str) -> None:
    records, items = likelihood_run(0.3)
    table = comparison(records, items, options=Options(metric=metric))
    cell = table.cell("mixer", "sst2")
    assert cell.low < cell.value < cell.high
    assert table.columns[0].unit == {"f1": "%", "mcc": "mcc", "balanced_acc": "%"}.get(metric, "nats")
    one = [record for record in records if record.spec.seed == 0]
    interval = score_interval(next(iter(gather(one, items, metric).values())))
    assert interval.low < interval.value < interval.high
    assert interval.method == "bootstrap over items"


@pytest.mark.parametrize("metric", ["f1", "mcc", "balanced_acc"])
def test_items_that_differ_are_those_with_another_answer(factory: ModuleType, metric: str) -> None:
    """A pseudo-value of such a metric differs on every item as soon as some answers do."""
    records, items = likelihood_run(0.3)
    texts = factory.make_record("mixer", "cola", 0, n=1), factory.make_record("mole", "cola", 0, n=1)
    for record in texts:
        items[record.cell] = [choice_item([0.0, 1.0], 0)]
    table = difference_table([*records, *texts], items, ["mixer", "mole"], Options(metric=metric))
    given = {
        method: np.array([[i.prediction for i in items[r.cell]] for r in records if r.spec.method == method])
        for method in ("mixer", "mole")
    }
    share = (given["mixer"] != given["mole"]).mean()
    assert 0 < share < 0.3
    assert table.cell("sst2:mixer:mole", "discordant").value == pytest.approx(100 * share)
    assert table.cell("cola:mixer:mole", "discordant").value == 0


def test_published_answers_of_the_study_differ_on_two_in_five() -> None:
    run = Run.open(REFERENCE / "smollm2-135m")
    table = compared(run, ["mixer", "base"], Options(metric="mcc"))
    assert table.cell("sst2:mixer:base", "discordant").value == pytest.approx(39.8, abs=0.05)


def test_tasks_without_a_metric_say_so(factory: ModuleType) -> None:
    records, items = likelihood_run(0.3)
    texts = factory.make_record("mixer", "gsm8k", 0, n=2)
    items[texts.cell] = [
        item.model_copy(update={"outputs": ["7"], "choices": None}) for item in factory.make_items([1.0, 0.0], "gsm8k")
    ]
    assert available([*records, texts], items) == ["acc", "gold_logprob", "gold_margin", "f1", "mcc", "balanced_acc"]
    table = comparison([*records, texts], items, options=Options(metric="gold_logprob"))
    (key,) = table.cell("mixer", "gsm8k").footnotes
    assert table.footnotes[key] == "gsm8k has no gold_logprob."


@pytest.mark.parametrize(("name", "column"), [("t8", "sst2"), ("t9", "128")])
def test_a_table_of_the_paper_is_of_the_chosen_metric_throughout(name: str, column: str) -> None:
    run = Run.open(REFERENCE / name)
    found = build_report(run, name, asked=Options(metric="gold_logprob"))
    assert isinstance(found, Table)
    assert next(one.unit for one in found.columns if one.key == column) == "nats"
    assert "Metric: gold_logprob." in found.notes
    assert all(value < 0 for _, row in found.rows() if (value := row.cell(column).value) is not None)
    # What is published is accuracy: it has no place beside nats.
    kinds = {row.kind for _, row in found.rows()}
    assert "paper" not in kinds
    assert {row.kind for _, row in build_report(run, name).rows()} >= kinds


def test_the_picture_beside_a_table_is_of_its_metric() -> None:
    run = Run.open(REFERENCE / "t9")
    found = build_report(run, "t9", asked=Options(metric="gold_logprob"))
    picture = companion(entry("t9"), found, run.records, run.items, run.variants)
    assert [axes.ylabel for axes in picture.axes] == ["mean over tasks, nats", "difference, nats"]


def test_learning_curves_in_nats_are_compared_in_nats() -> None:
    found = build_report(Run.open(REFERENCE / "t9"), "t9", asked=Options(metric="gold_logprob"))
    note = next(one for one in found.notes if one.startswith("mixer minus mixer-aux in nats (95 %): "))
    values = [found.cell(method, "256").value for method in ("mixer", "mixer-aux")]
    assert f"256: {values[0] - values[1]:+.3f} [".replace("-", "−") in note


def test_a_metric_of_what_shows_no_scores_is_refused() -> None:
    run = Run.open(REFERENCE / "t8")
    for name in ("f3", "reproduction", "load"):
        with pytest.raises(ReportError, match=f"tables and figures of scores, not for '{name}'"):
            build_report(run, name, asked=Options(metric="gold_logprob"))
