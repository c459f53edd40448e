"""Replies of a generator: what is taken, and what is left out for which reason."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tasks.crossdomain.prompt import kinds, load_prompt
from tasks.crossdomain.structure import read_candidates

PAIRS = [("logarithms", "dosing"), ("series", "clearance")]


def entry(**changes: Any) -> dict[str, Any]:
    base = {
        "pair": 1,
        "question": "A patient with a known creatinine clearance receives a drug; how long until a tenth remains?",
        "solution": "First-order elimination: t = ln(10) / k, with k from the clearance.",
        "answer": "6.9 h",
    }
    return {key: value for key, value in (base | changes).items() if value is not ...}


def read(*entries: Any, before: str = "", after: str = "") -> tuple[list[Any], Counter[str]]:
    return read_candidates(before + json.dumps({"questions": list(entries)}) + after, PAIRS)


def test_well_formed_questions_are_taken_with_their_topics() -> None:
    found, left_out = read(entry(pair=2), entry(pair=1, answer=" 7 h "))
    assert [(candidate.topics, candidate.answer) for candidate in found] == [(PAIRS[1], "6.9 h"), (PAIRS[0], "7 h")]
    assert not left_out


@pytest.mark.parametrize(
    ("before", "after"),
    [("```json\n", "\n```"), ("<think>{}</think>", ""), ("Here they are: ", " Good luck!")],
)
def test_they_are_found_in_prose(before: str, after: str) -> None:
    found, _ = read(entry(), before=before, after=after)
    assert len(found) == 1


def test_a_bare_list_is_taken_too() -> None:
    found, _ = read_candidates(json.dumps([entry()]), PAIRS)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([entry(answer=...)], "incomplete"),
        ([entry(solution=5)], "incomplete"),
        (["text"], "incomplete"),
        ([entry(question="Too short?")], "length"),
        ([entry(answer="  ")], "length"),
        ([entry(question="x" * 5000)], "length"),
        ([entry(pair=3)], "pair"),
        ([entry(pair=0)], "pair"),
        ([entry(pair="1")], "pair"),
        ([entry(pair=True)], "pair"),
        ([entry(pair=...)], "pair"),
        ([entry(answer="receives a drug; how long until a tenth remains")], "answer_given"),
    ],
)
def test_others_are_left_out_with_a_reason(entries: list[Any], reason: str) -> None:
    found, left_out = read(*entries)
    assert found == []
    assert left_out == Counter({reason: 1})


def test_a_second_question_on_a_pair_is_left_out() -> None:
    found, left_out = read(entry(), entry(answer="8 h"))
    assert [candidate.answer for candidate in found] == ["6.9 h"]
    assert left_out == Counter(pair=1)


@pytest.mark.parametrize("text", ["", "Sorry.", "{}", '{"questions": []}', '{"questions": [{"pair": 1', "<think>hm"])
def test_a_reply_without_questions_is_counted(text: str) -> None:
    assert read_candidates(text, PAIRS) == ([], Counter(no_json=1))


@pytest.mark.parametrize("kind", kinds())
def test_prompts_pair_all_topics_before_any_twice(kind: str) -> None:
    prompt = load_prompt(kind)
    first, second = prompt.topics.values()
    total = len(first) * len(second)
    assert total >= 200
    assert len(set(first)) == len(first)
    assert len(set(second)) == len(second)
    pairs = [pair for batch in range(total // 4) for pair in prompt.pairs(batch, 4)]
    assert len(set(pairs)) == total
    assert prompt.pairs(total // 4, 4) == prompt.pairs(0, 4)
    sent = prompt.messages(prompt.pairs(0, 4))[1]["content"]
    assert "Write 4 questions" in sent
    assert all(f"{first} and {second}" in sent for first, second in prompt.pairs(0, 4))


def test_a_published_prompt_never_changes() -> None:
    """A change of wording is a new version: the digests here are added to, never edited."""
    known = {("math-medical", 1): "d66288abc4875323", ("math-coding", 1): "7796796fa86994b3"}
    assert {(kind, load_prompt(kind).version): load_prompt(kind).digest for kind in kinds()} == known


def test_unknown_kinds_are_said() -> None:
    with pytest.raises(
        ValueError, match="Unknown kind of cross-domain set 'math-law': did you mean math-medical or math-coding"
    ):
        load_prompt("math-law")
