"""A run without texts: every test comes out the same, and no text of a row is left."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.cli import app
from harness.sharing.slim import slim_items, write_slim
from reports.api import compare_text
from reports.panel import asked
from reports.scores import gather
from results.ground.errors import HarnessError
from results.schema import Item, PlannedCell, Record, RunInfo
from results.store import RunFolder
from tests.reports.factory import make_record

QUESTIONS = 60


def _items(method: str, task: str) -> list[Item]:
    """Choices of an item's own, with likelihoods; the method's quality moves them."""
    shift = {"base": 0.0, "mixer": 0.7}[method]
    found = []
    for n in range(QUESTIONS):
        gold, scores = n % 4, [-2.0 - ((n * 7 + place * 5) % 11) / 4 for place in range(4)]
        scores[gold] += shift
        chosen = scores.index(max(scores))
        choices = [f" the secret option {place} of {n}" for place in range(4)]
        found.append(
            Item(
                id=f"{task}-{n}",
                prompt=f"The secret question {n}",
                choices=choices,
                outputs=[[score, False] for score in scores],
                gold=choices[gold].strip(),
                prediction=choices[chosen].strip(),
                metrics={"acc": float(chosen == gold)},
                group=f"passage {n // 3}" if n < 30 else None,
                extra={"gold_index": gold, "predicted_index": chosen, "reason": "the secret verdict"},
            )
        )
    return found


def _mean(items: list[Item]) -> float:
    return sum(item.metrics["acc"] or 0.0 for item in items) / len(items)


def _write(folder: Path, made: list[tuple[Record, list[Item]]]) -> Path:
    cells = [PlannedCell(cell=r.cell, method=r.spec.method, task=r.spec.task, seed=r.spec.seed) for r, _ in made]
    run = RunFolder.create(folder, RunInfo(name="mine", cells=cells))
    for record, items in made:
        run.write_cell(record, items)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = []
    for method in ("base", "mixer"):
        items = _items(method, "arc-e")
        made.append((make_record(method, "arc-e", n=QUESTIONS, value=_mean(items)), items))
    made.append((make_record("mole", "arc-e", status="failed", error="It broke."), []))
    return _write(tmp_path / "run", made)


@pytest.mark.parametrize("metric", [None, "gold_logprob", "gold_margin", "mcc"])
def test_every_comparison_comes_out_the_same(run: Path, tmp_path: Path, metric: str | None) -> None:
    write_slim(run, tmp_path / "slim")
    texts = [compare_text([place], None, asked(against="mixer", metric=metric)) for place in (run, tmp_path / "slim")]
    assert texts[0] == texts[1]
    assert "base" in texts[0]


def test_no_text_of_a_row_is_left_and_the_run_verifies(run: Path, tmp_path: Path) -> None:
    slim = write_slim(run, tmp_path / "slim")
    for file in (tmp_path / "slim").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"secret" not in (gzip.decompress(data) if file.suffix == ".gz" else data)
    assert [problem.endswith("(mole on arc-e): it failed: It broke.") for problem in slim.verify()] == [True]
    assert [record.status for record in slim.records()] == ["done", "done", "failed"]
    item = slim.items(slim.info.cells[0].cell)[0]
    assert (item.id, item.group, item.metrics) == ("arc-e-0", "passage 0", item.metrics)
    assert len(item.outputs) == 4


def test_labels_that_all_items_share_stay_words() -> None:
    item = Item(id="1", prompt="p", choices=[" yes", " no"], outputs=[[-1.0, True], [-2.0, False]], gold="yes",
                prediction="yes", metrics={"acc": 1.0})  # fmt: skip
    (kept,) = slim_items([item])
    assert (kept.choices, kept.gold, kept.prediction, kept.prompt) == ([" yes", " no"], "yes", "yes", "")
    assert kept.extra == {"gold_index": 0, "predicted_index": 0}


def test_generated_answers_become_hashes_that_tell_equal_ones() -> None:
    made = [
        Item(id=str(n), prompt="p", outputs=[text], gold=gold, prediction=text, metrics={"exact_match": 0.0})
        for n, (text, gold) in enumerate([("same", "a"), ("same", "b"), ("other", "a")])
    ]
    kept = slim_items(made)
    assert [item.outputs for item in kept] == [[], [], []]
    assert kept[0].prediction == kept[1].prediction != kept[2].prediction
    assert kept[0].gold == kept[2].gold != kept[1].gold
    assert "same" not in kept[0].model_dump_json()


def test_a_constant_answer_is_still_seen(tmp_path: Path) -> None:
    items = [
        Item(id=str(n), prompt="p", outputs=["5"], gold=str(n), prediction="5", metrics={"acc": float(n == 5)})
        for n in range(20)
    ]
    record = make_record("mixer", "gsm8k", n=20, value=0.05)
    (one,) = gather([record], {record.cell: slim_items(items)}).values()
    assert one.constant


def test_a_cell_named_by_a_folder_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    record = make_record(
        "mixer", "arc-e", n=QUESTIONS, model="/home/anna/models/mine", value=_mean(_items("mixer", "a"))
    )
    run = _write(tmp_path / "run", [(record, _items("mixer", "arc-e"))])
    with pytest.raises(HarnessError, match="named by a folder of this machine"):
        write_slim(run, tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


def test_the_command_writes_it_and_says_what_it_leaves_out(run: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    runner = CliRunner()
    done = runner.invoke(app, ["publish", str(run), "--slim", str(tmp_path / "slim")])
    assert done.exit_code == 0, done.output
    assert "3 cells without texts" in done.output
    both = runner.invoke(app, ["publish", str(run), "--slim", str(tmp_path / "more"), "--to", "org/name"])
    neither = runner.invoke(app, ["publish", str(run)])
    assert "leave --to out" in str(both.exception or both.output)
    assert "--slim DIR" in str(neither.exception or neither.output)
    again = runner.invoke(app, ["publish", str(run), "--slim", str(tmp_path / "slim")])
    assert "is not empty" in str(again.exception or again.output)
