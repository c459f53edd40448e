"""Verdicts are found wherever they stand, and nothing is taken for a verdict that is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.judge.parse import REASON_LENGTH, parse_verdict, split_thinking
from tasks.judge.rubric import load_rubric, rubric_files


@pytest.mark.parametrize(
    ("text", "score", "reason"),
    [
        ('{"score": 85, "reason": "right drug"}', 85, "right drug"),
        ('{"reason": "right drug", "score": 85.5}', 85.5, "right drug"),
        ('```json\n{"score": 0, "reason": "empty"}\n```', 0, "empty"),
        ('Here is my verdict:\n{"score": 100, "reason": "all right"}\nThank you.', 100, "all right"),
        ('{"score": "70", "reason": "x"}', 70, "x"),
        ('{"score": "70/100", "reason": "x"}', 70, "x"),
        ('{"verdict": {"score": 12, "reason": "inside"}}', 12, "inside"),
        ('Draft {"score": 10, "reason": "a"}, final {"score": 90, "reason": "b"}', 90, "b"),
        ('{"options": {"A": 1}} {"score": 40, "reason": "c"}', 40, "c"),
        ('{"score": 5}', 5, ""),
        ("score: 85", 85, ""),
        ("**Score:** 85/100\n**Reason:** the dose is wrong.", 85, "the dose is wrong."),
        ("Score = 33.5", 33.5, ""),
        ("The score is 60 out of 100.", 60, ""),
        ("I give a score of 20.", 20, ""),
        ('{"score": 85, "reason": "he said "stop""}', 85, 'he said "stop'),
        ("{'score': 7, 'reason': 'single quotes'}", 7, "single quotes"),
        ("Score: 50. As said, score: 50.", 50, ""),
    ],
)
def test_verdicts_are_found(text: str, score: float, reason: str) -> None:
    parsed = parse_verdict(text)
    assert parsed is not None
    assert (parsed.score, parsed.reason) == (score, reason)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is correct.",
        "85",
        '{"score": 101, "reason": "x"}',
        '{"score": -1, "reason": "x"}',
        '{"score": true, "reason": "x"}',
        '{"score": null}',
        '{"score": NaN}',
        '{"score": Infinity}',
        '{"score": [80]}',
        '{"score": "high"}',
        '{"score": "8/10"}',
        '{"score": <0-100>, "reason": "<one sentence>"}',
        "score: 0-100",
        "score: 0 to 100",
        "score: 8/10",
        "score: 8 out of 10",
        "score: 150",
        "score: -5",
        "score: 1234567",
        "Score: 70. On reflection, score: 40.",
        "scores: 70",
        '{"score": 8',
        '{"reason": "good", "score": 100',
        '{"score": ' + "9" * 5000 + "}",
        '{"a":' * 100_000,
    ],
)
def test_nothing_else_is_a_verdict(text: str) -> None:
    assert parse_verdict(text) is None


def test_a_number_at_the_end_of_a_cut_reply_may_lack_digits() -> None:
    assert parse_verdict("Score: 8", cut=True) is None
    assert parse_verdict("Score: 8\nReason: wr", cut=True) is not None
    assert parse_verdict('{"score": 8, "reason": "wr', cut=True) is not None


@pytest.mark.parametrize(
    ("text", "thinking", "rest"),
    [
        ("plain", "", "plain"),
        ("<think>hm\nhm</think>\nanswer", "hm\nhm", "answer"),
        ("<thinking>hm</thinking>answer", "hm", "answer"),
        ("<THINK>hm</THINK>answer", "hm", "answer"),
        ("<think>cut off while", "cut off while", ""),
        ("template opened it</think>answer", "template opened it", "answer"),
        ("<think>a</think>x<think>b</think>y", "a", "x<think>b</think>y"),
        ("<think></think>answer", "", "answer"),
    ],
)
def test_thinking_is_set_apart(text: str, thinking: str, rest: str) -> None:
    assert split_thinking(text) == (thinking, rest)


def test_a_score_inside_the_thinking_does_not_count() -> None:
    _, rest = split_thinking('<think>perhaps {"score": 90}</think>I cannot decide.')
    assert parse_verdict(rest) is None


@pytest.mark.parametrize("name_version", sorted(rubric_files()))
def test_a_judge_that_repeats_its_instructions_gives_no_verdict(name_version: tuple[str, int]) -> None:
    messages = load_rubric(*name_version).messages("What?", "That.", "This.")
    assert all(parse_verdict(message["content"]) is None for message in messages)


def test_long_reasons_are_clipped() -> None:
    parsed = parse_verdict(json.dumps({"score": 1, "reason": "a " * 5000}))
    assert parsed is not None
    assert len(parsed.reason) == REASON_LENGTH


@given(
    st.floats(1, 100, exclude_min=True, allow_nan=False),
    st.text(),
    st.text(alphabet=st.characters(exclude_characters="{}<>")),
)
def test_any_json_verdict_survives_prose_around_it(score: float, reason: str, prose: str) -> None:
    parsed = parse_verdict(f"{prose}{json.dumps({'score': score, 'reason': reason})}{prose}")
    assert parsed is not None
    assert parsed.score == score


@given(st.text())
def test_no_text_raises_and_no_score_leaves_its_range(text: str) -> None:
    _, rest = split_thinking(text)
    parsed = parse_verdict(rest)
    assert parsed is None or 0 <= parsed.score <= 100
