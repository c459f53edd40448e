"""Malformed rows: each refused when its task is bound, in one sentence with set, split, row number, field and value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.ground.digest import unit_interval
from tasks import registry
from tasks.base import TaskSettings
from tasks.parts import ONE_SPLIT
from tasks.rows import BadRow
from tasks.sources import DirectorySource, SourceError
from tasks.wording import normalised
from tests.tasks.conftest import ROWS, write_rows
from tests.tasks.damage import CASES, LOST, changed, write_with

ACCEPTED: list[tuple[str, str, Any, str]] = [
    ("hellaswag", "label", 3, "the authors' own files hold numbers"),
    ("qqp", "question2", "", "published pairs lack a side"),
    ("medmcqa", "opb", "same", "21 published rows hold two equal options, and letters are scored"),
    ("hellaswag", "ctx_b", "", "contexts of one sentence"),
    ("sst2", "comment", {"any": "thing"}, "further columns are not read"),
    ("gsm8k", "answer", "so\n#### -1,000.50", "signs, separators and decimals are numbers"),
    ("mbpp", "challenge_test_list", [], "most rows have none"),
]


def bind_with(tmp_path: Path, name: str, change: Any, *, split: str | None = None) -> Any:
    """Bind a task to made rows of which the fourth of one split was changed."""
    write_with(tmp_path, name, change, split=split)
    return registry.create(name).bind(DirectorySource(tmp_path), TaskSettings())


@pytest.mark.parametrize(("name", "field", "value"), CASES)
def test_a_row_that_cannot_be_meant_is_refused_in_one_sentence(
    name: str, field: str, value: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadRow) as refused:
        bind_with(tmp_path, name, changed(field, value))
    error, card = refused.value, registry.card(name)
    text = str(error)
    assert (error.task, error.split, error.number) == (name, card.roles.eval, 4)
    assert error.dataset == f"{card.set}/{card.config}"
    assert error.field.partition(".")[0] == field
    for part in (f"Row 4 of {name}'s split {card.roles.eval}", error.dataset, error.field):
        assert part in text
    if value is LOST:
        assert f"lacks the column '{field}'" in text
    elif not isinstance(value, list | dict):
        assert json.dumps(value) in text
    assert "\n" not in text
    assert text.endswith(".")
    assert ": give " in text
    assert isinstance(error, SourceError)


@pytest.mark.parametrize(("name", "field", "value", "reason"), ACCEPTED)
def test_what_only_looks_wrong_is_accepted(name: str, field: str, value: Any, reason: str, tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row[field] = value
        if value == "same":
            row["opa"] = value

    bound = bind_with(tmp_path, name, change)
    for doc in bound.eval_docs():
        assert bound.requests(doc, 0), reason
        assert bound.example(doc).target.strip(), reason


def test_rows_of_the_training_split_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(BadRow, match=r"Row 4 of sst2's split train \(glue/sst2\) in .* has label -1: give 0 or 1\."):
        bind_with(tmp_path, "sst2", changed("label", -1), split="train")


def test_the_hubs_other_layout_of_medqa_is_checked_too(tmp_path: Path) -> None:
    for number, label in enumerate((4, -1, None, "1", True)):
        rows = [
            {"id": str(i), "sent1": f"q{i}", **{f"ending{k}": f"{i} {k}" for k in range(4)}, "label": 1}
            for i in range(6)
        ]
        rows[2]["label"] = label  # type: ignore[assignment]
        root = tmp_path / str(number)
        write_rows(root / "medqa" / "4_options" / "test.jsonl", rows)
        with pytest.raises(BadRow, match="Row 3 of medqa's split test"):
            registry.create("medqa").bind(DirectorySource(root), TaskSettings())


@pytest.mark.parametrize("split", ["test", "train", "validation"])
def test_an_empty_split_is_refused_and_no_other_takes_its_place(split: str, tmp_path: Path) -> None:
    for one in ("train", "validation", "test"):
        rows = [] if one == split else [ROWS["arc", "ARC-Challenge"][1](i) for i in range(8)]
        write_rows(tmp_path / "arc" / "ARC-Challenge" / f"{one}.jsonl", rows)
    with pytest.raises(SourceError, match=rf"The split {split} of arc-c in .* is empty"):
        registry.create("arc-c").bind(DirectorySource(tmp_path), TaskSettings())


def test_rows_that_leave_nothing_to_evaluate_are_refused(tmp_path: Path) -> None:
    """A single row of the only split falls into a part by the hash of its input; this one into none that is scored."""
    inputs, make = registry.card("boolq").inputs, ROWS["boolq", "default"][1]
    position = lambda row: unit_interval("parts", normalised([row[column] for column in inputs]))  # noqa: E731
    row = next(row for row in map(make, range(100)) if position(row) < 1 - ONE_SPLIT["eval"])
    write_rows(tmp_path / "boolq" / "default" / "validation.jsonl", [row])
    with pytest.raises(SourceError, match="leave none to evaluate"):
        registry.create("boolq").bind(DirectorySource(tmp_path), TaskSettings())


@pytest.mark.parametrize(
    "line", ['{"a": ' + "9" * 5000 + "}", "[" * 100_000, '{"sentence": "x"', "[1, 2]", '"text"', "\x00", "NaN"]
)
def test_lines_that_are_no_rows_are_one_sentence(line: str, tmp_path: Path) -> None:
    file = tmp_path / "glue" / "sst2" / "validation.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(ROWS["glue", "sst2"][1](1)) + "\n" + line + "\n")
    with pytest.raises(SourceError, match=r"validation\.jsonl") as refused:
        registry.create("sst2").bind(DirectorySource(tmp_path), TaskSettings())
    assert "\n" not in str(refused.value)
