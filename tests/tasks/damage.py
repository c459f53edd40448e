"""Malformed rows, one a case: what nobody can have meant as a row of its task."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import registry
from tests.tasks.conftest import ROWS, write_rows

LOST: Any = object()
"""The column is missing."""
HALF = "half \ud800 a pair"

GLUE_LABELS = [-1, 2, 7, "1", 1.0, None, True, [1], "", LOST]
CASES: list[tuple[str, str, Any]] = [
    *(("sst2", "label", value) for value in GLUE_LABELS),
    *(("mrpc", "label", value) for value in (-1, 7, "1", 1.0, None)),
    ("mnli", "label", 3),
    ("mnli", "label", -1),
    ("cola", "label", False),
    ("rte", "label", None),
    ("qnli", "label", "entailment"),
    ("qqp", "label", 2),
    *(("sst2", "sentence", value) for value in ("", "   ", None, 5, ["a"], HALF, LOST)),
    ("sst2", "idx", None),
    ("sst2", "idx", 1.5),
    ("rte", "sentence1", ""),
    ("mrpc", "sentence2", None),
    ("qqp", "question1", 3),
    *(("boolq", "answer", value) for value in ("true", 1, 0, None, "yes", LOST)),
    ("boolq", "passage", ""),
    ("boolq", "question", None),
    *(("piqa", "label", value) for value in (-1, 2, "0", 0.0, None)),
    ("piqa", "sol1", ""),
    ("piqa", "sol2", {"text": "a"}),
    ("piqa", "goal", None),
    *(("hellaswag", "label", value) for value in ("", "4", "-1", -1, 4, None, 1.0, "A", True)),
    ("hellaswag", "endings", ["a", "b", "c"]),
    ("hellaswag", "endings", ["a", "b", "c", "a"]),
    ("hellaswag", "endings", ["a", "b", "c", ""]),
    ("hellaswag", "endings", [1, 2, 3, 4]),
    ("hellaswag", "endings", "abcd"),
    ("hellaswag", "ctx_b", None),
    ("hellaswag", "ctx_a", ""),
    *(("arc-c", "answerKey", value) for value in ("Z", "", None, 0, "a", LOST)),
    ("arc-c", "choices", [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]),
    ("arc-c", "choices", None),
    ("arc-c", "choices", {"text": ["a", "b"]}),
    ("arc-c", "choices", {"text": ["a", "b"], "label": ["A"]}),
    ("arc-c", "choices", {"text": ["a", "a"], "label": ["A", "B"]}),
    ("arc-c", "choices", {"text": ["a", " "], "label": ["A", "B"]}),
    ("arc-c", "choices", {"text": ["a", None], "label": ["A", "B"]}),
    ("arc-c", "choices", {"text": [1, 2], "label": ["A", "B"]}),
    ("arc-c", "choices", {"text": ["a", "b"], "label": ["A", "A"]}),
    ("arc-c", "choices", {"text": ["a", "b"], "label": [1, 2]}),
    ("arc-c", "choices", {"text": ["a"], "label": ["A"]}),
    ("arc-c", "choices", {"text": [str(n) for n in range(12)], "label": list("ABCDEFGHIJKL")}),
    ("arc-e", "id", None),
    ("arc-e", "question", ""),
    *(("medqa", "answer_idx", value) for value in ("E", "", None, 0, "a", LOST)),
    ("medqa", "answer", "something else"),
    ("medqa", "options", ["a", "b", "c", "d"]),
    ("medqa", "options", {"A": "a", "B": "b", "C": "c"}),
    ("medqa", "options", {"A": "a", "B": "b", "C": "c", "D": "a"}),
    ("medqa", "options", {"A": "a", "B": "b", "C": "c", "D": ""}),
    ("medqa", "options", {"A": "a", "B": "b", "C": "c", "D": 4}),
    ("medqa", "options", {"A": "a", "B": "b", "C": "c", "D": None}),
    *(("medmcqa", "cop", value) for value in (-1, 4, "1", None, 1.0, True)),
    ("medmcqa", "opd", ""),
    ("medmcqa", "opa", None),
    *(("pubmedqa", "final_decision", value) for value in ("Yes", "", None, True, "unsure")),
    ("pubmedqa", "context", ["a"]),
    ("pubmedqa", "context", {"contexts": []}),
    ("pubmedqa", "context", {"contexts": ["a", ""]}),
    ("pubmedqa", "pubid", LOST),
    ("pubmedqa-judged", "long_answer", ""),
    *(("gsm8k", "answer", value) for value in ("18", "#### ", "#### many", "so\n#### 18 apples", None, 18, "")),
    ("gsm8k", "question", ""),
    ("mbpp", "code", "def f(:"),
    ("mbpp", "test_list", []),
    ("mbpp", "test_list", ["assert ("]),
    ("mbpp", "test_list", "assert f()"),
    ("mbpp", "test_setup_code", None),
    ("humaneval", "entry_point", "another"),
    ("humaneval", "entry_point", ""),
    ("humaneval", "canonical_solution", "  return ("),
    ("humaneval", "test", "assert True"),
]
assert len(CASES) >= 80


def write_with(root: Path, name: str, change: Callable[[dict[str, Any]], None], *, split: str | None = None) -> None:
    """Write a task's made rows below `root`, the fourth of one split changed (by default of the evaluated one)."""
    card = registry.card(name)
    splits, make = ROWS[card.set, card.config]
    chosen = split or card.roles.eval
    for one in {*splits} & {card.roles.eval, card.roles.dev, card.roles.train}:
        rows = [copy.deepcopy(make(i)) for i in range(10 * len(one), 10 * len(one) + 8)]
        if one == chosen:
            change(rows[3])
        write_rows(root / card.set / card.config / f"{one}.jsonl", rows)


def changed(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A row's field set to a value, or lost."""

    def change(row: dict[str, Any]) -> None:
        if value is LOST:
            del row[field]
        else:
            row[field] = value

    return change
