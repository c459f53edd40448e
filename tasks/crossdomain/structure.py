"""From a generator's reply to questions, and what keeps one out of a set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tasks.judge.objects import json_values
from tasks.judge.parse import split_thinking
from tasks.wording import normalised

LENGTHS = {"question": (60, 4000), "solution": (20, 8000), "answer": (1, 3000)}
"""Characters at least and at most, by field."""

QUESTIONS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pair": {"type": "integer"}, **{name: {"type": "string"} for name in LENGTHS}},
                "required": ["pair", *LENGTHS],
                "additionalProperties": False,
            },
        }
    },
    "required": ["questions"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Candidate:
    """A question that is well formed. `topics` is the pair that it was asked for."""

    question: str
    solution: str
    answer: str
    topics: tuple[str, str]


def read_candidates(text: str, pairs: list[tuple[str, str]]) -> tuple[list[Candidate], Counter[str]]:
    """The well-formed questions of a reply, in its order, and how many were left out for which reason.

    Reasons: `no_json` (the whole reply), `incomplete` (a field is missing or of another type), `length` (a field is
    too short or too long), `pair` (not one of the pairs asked for, or a pair's second question), `answer_given` (the
    answer stands in the question).
    """
    _, rest = split_thinking(text)
    entries = _entries(rest)
    if entries is None:
        return [], Counter(no_json=1)
    found: dict[int, Candidate] = {}
    left_out: Counter[str] = Counter()
    for entry in entries:
        fault = _fault(entry, len(pairs), found)
        if fault is not None:
            left_out[fault] += 1
            continue
        question, solution, answer = (entry[name].strip() for name in LENGTHS)
        found[entry["pair"]] = Candidate(question, solution, answer, pairs[entry["pair"] - 1])
    return list(found.values()), left_out


def _entries(text: str) -> list[Any] | None:
    """The list of questions: under its name, or bare."""
    for value in json_values(text, "{["):
        listed = value.get("questions") if isinstance(value, dict) else value
        if isinstance(listed, list) and listed:
            return listed
    return None


def _fault(entry: Any, pairs: int, found: dict[int, Candidate]) -> str | None:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in LENGTHS):
        return "incomplete"
    if not all(low <= len(entry[name].strip()) <= high for name, (low, high) in LENGTHS.items()):
        return "length"
    pair = entry.get("pair")
    if not isinstance(pair, int) or isinstance(pair, bool) or not 1 <= pair <= pairs or pair in found:
        return "pair"
    answer = normalised(entry["answer"])
    # Short answers ("0.5", "yes") may well stand in a question that doesn't give them away.
    return "answer_given" if len(answer) > 25 and answer in normalised(entry["question"]) else None
