"""`harness agreement`: both sides are equal on a model of two layers, and a difference would be seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.bench.agreement import Agreement, Side, compare, our_side, their_side
from harness.cli import app
from harness.commands.agreement import bind, table
from harness.models import BaseModel, load
from results.ground.errors import HarnessError

pytestmark = [pytest.mark.assets, pytest.mark.model]


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> BaseModel:
    return load(str(tiny_model))


@pytest.mark.parametrize("name", ["sst2", "arc-e", "boolq", "hellaswag", "medqa-5opt"])
def test_both_sides_are_equal(name: str, tiny: BaseModel) -> None:
    (bound,) = bind([name], "bundled", 6)
    found = compare(tiny, bound, 2)
    assert found.equal, found
    assert (found.items, found.task) == (6, name)
    assert found.requests == sum(len(bound.requests(doc, 0)) for doc in bound.eval_docs())
    assert {metric.name for metric in bound.metrics} == {metric.rstrip("*") for metric in found.metrics}
    assert found.file.endswith("(adapted)") == (name == "medqa-5opt")


def test_lm_eval_lacks_accuracy_of_cola(tiny: BaseModel, tmp_path: Path) -> None:
    folder = tmp_path / "glue" / "cola"
    folder.mkdir(parents=True)
    rows = [{"sentence": f"the lamp {i} is on .", "label": i % 2, "idx": i} for i in range(8)]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (bound,) = bind(["cola"], str(tmp_path), 8)
    found = compare(tiny, bound, 2)
    assert found.equal, found
    assert list(found.metrics) == ["mcc", "acc*"]
    assert "acc*" in table([found])
    assert "*: not in lm-eval's file" in table([found])


def shifted(side: Side, by: float) -> Side:
    outputs = [[(value + by, greedy) for value, greedy in own] for own in side.outputs]
    return side._replace(outputs=outputs)


def test_differences_are_seen(tiny: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    (bound,) = bind(["sst2"], "bundled", 4)
    ours, theirs = our_side(tiny, bound), their_side(tiny, bound, 2)
    size = max(abs(value) for own in theirs.outputs for value, _ in own)

    def against(changed: Side) -> Agreement:
        monkeypatch.setattr("harness.bench.agreement.our_side", lambda *_: ours)
        monkeypatch.setattr("harness.bench.agreement.their_side", lambda *_: changed)
        return compare(tiny, bound, 2)

    assert against(theirs).equal
    off = against(shifted(theirs, 0.002 * size))
    assert not off.equal
    assert off.largest_difference == pytest.approx(0.002 * size, rel=0.05)
    turned = [[own[1], own[0]] for own in theirs.outputs]
    other = against(theirs._replace(outputs=turned))
    assert other.answers_differ == 4
    greedy = [[(value, not flag) for value, flag in own] for own in theirs.outputs]
    assert against(theirs._replace(outputs=greedy)).greedy_differ == 8
    texts = [[(prompt + " ", choice) for prompt, choice in own] for own in theirs.texts]
    assert against(theirs._replace(texts=texts)).other_texts == 8
    assert not against(theirs._replace(metrics={"acc": theirs.metrics["acc"] + 0.25})).equal


def test_a_compared_task_is_not_compared_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path))
    arguments = ["agreement", "--tasks", "sst2", "--model", str(tiny_model), "--items", "3"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "Equal on 1 of 1 tasks." in first.stdout
    calls: list[int] = []

    def again_compared(*_: object) -> None:
        calls.append(1)
        raise HarnessError("compared again")

    monkeypatch.setattr("harness.bench.agreement.compare", again_compared)
    again = CliRunner().invoke(app, [*arguments, "--json"])
    assert again.exit_code == 0, again.output
    (row,) = json.loads(again.stdout)
    assert (row["task"], row["items"]) == ("sst2", 3)
    assert not calls
    CliRunner().invoke(app, [*arguments[:-1], "4"])
    assert calls, "another number of items is another comparison"


def test_a_difference_ends_with_code_1(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path))
    facts = {"file": "f", "version": "1", "source": "s", "items": 2, "requests": 4, "largest_difference": 1.0}
    facts |= {"largest_share": 0.5, "other_texts": 0, "greedy_differ": 0, "answers_differ": 0, "seconds": (1, 1)}
    bad = Agreement(task="sst2", metrics={"acc": (0.5, 0.5)}, **facts)  # type: ignore[arg-type]
    monkeypatch.setattr("harness.bench.agreement.compare", lambda *_: bad)
    found = CliRunner().invoke(app, ["agreement", "--tasks", "sst2", "--model", str(tiny_model)])
    assert found.exit_code == 1
    assert "Not equal: sst2." in found.stdout


@pytest.mark.parametrize(
    ("names", "words"),
    [(["sst3"], "did you mean sst2"), (["gsm8k"], "gsm8k has no choices"), (["cola"], "cola is not in bundled")],
)
def test_mistakes_are_one_sentence(names: list[str], words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        bind(names, "bundled", 3)
