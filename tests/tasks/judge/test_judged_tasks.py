"""Judged tasks: exact match without a judge, verdicts over stored answers, and again with another judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import registry
from tasks.base import BoundTask, TaskSettings
from tasks.judge import Judge, JudgeConfig, JudgeUnavailable
from tasks.judged import named_option
from tasks.sources import DirectorySource
from tests.fake_endpoint import FakeEndpoint, Say, verdict

OPTIONS = {"A": "Aspirin", "B": "Low-dose aspirin", "C": "Reassurance", "D": "No treatment"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" B. Low-dose aspirin", "B"),
        ("(C) because", "C"),
        ("**D**", "D"),
        ("C\nThe patient is well.", "C"),
        ("I think the answer is A.", "A"),
        ("The answer is A? No, the answer is (C).", "C"),
        ("Answer: d", "D"),
        ("Give reassurance to the patient.", "C"),
        ("low-dose aspirin.", "B"),
        ("Aspirin", "A"),
        ("Both reassurance and no treatment are right", ""),
        ("A patient like this needs rest.", ""),
        ("", ""),
        ("The answer is E", ""),
        ("Aspirinoid", ""),
    ],
)
def test_the_option_that_an_answer_names(text: str, letter: str) -> None:
    assert named_option(text, OPTIONS) == letter


def bind(name: str, written: DirectorySource) -> BoundTask:
    return registry.create(name).bind(written, TaskSettings(limit=6))


def judge_for(endpoint: FakeEndpoint, folder: Path, **settings: Any) -> Judge:
    config = {"preset": "generic", "base_url": endpoint.url, "model": "m", "backoff": 0.01, "concurrency": 1} | settings
    return Judge(JudgeConfig(**config), folder)


@pytest.mark.parametrize("name", ["medqa-judged", "medqa-5opt-judged", "pubmedqa-judged"])
def test_verdict_and_exact_match_stand_side_by_side(
    name: str, written: DirectorySource, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    task = bind(name, written)
    docs = task.eval_docs()
    right, wrong = docs[:3], docs[3:]
    outputs = [[task.example(doc).target] for doc in right] + [["I don't know."] for _ in wrong]
    endpoint.answer = lambda question, nth, body: Say(
        verdict(5 if "I don't know" in body["messages"][1]["content"] else 95, "as it is")
    )
    task.judge = judge_for(endpoint, tmp_path)
    items = task.score_all(docs, outputs)

    assert [item.metrics for item in items] == [{"judge_score": 95.0, "exact_match": 1.0}] * 3 + [
        {"judge_score": 5.0, "exact_match": 0.0}
    ] * 3
    assert task.primary == "judge_score"
    assert task.aggregate(items) == {"judge_score": (50.0, 6), "exact_match": (0.5, 6)}
    assert items[0].extra["judge_reason"] == "as it is"
    facts = task.record_extra()["judge"]
    assert facts["exact_match"]["agreement"] == 1.0
    assert facts["judge"]["rubric"] == "medical-v1"
    assert json.dumps([dict(item.extra) for item in items] + [facts])

    asked = endpoint.log[0].body["messages"][1]["content"]
    assert f"<reference_answer>\n{items[0].gold}\n</reference_answer>" in asked
    assert str(docs[0].row["question"]) in endpoint.log[0].question
    assert not endpoint.log[0].question.endswith("Answer:")


def test_an_answer_without_a_verdict_is_no_zero(
    written: DirectorySource, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    task = bind("medqa-judged", written)
    docs = task.eval_docs()
    endpoint.answer = lambda question, nth, body: (
        Say("no verdict") if question.startswith(f"Question: {docs[0].row['question']}") else Say(verdict(80))
    )
    task.judge = judge_for(endpoint, tmp_path)
    items = task.score_all(docs, [["A"]] * len(docs))
    assert items[0].metrics["judge_score"] is None
    assert items[0].extra["judge_unscored"] == "unparsable"
    assert task.aggregate(items)["judge_score"] == (80.0, 5)
    assert "1 of 6 answers unscored (unparsable 1)" in task.record_extra()["judge"]["notes"][0]


def test_stored_answers_are_judged_again_by_another_judge(
    written: DirectorySource, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    task = bind("medqa-judged", written)
    docs, outputs = task.eval_docs(), [["B"]] * 6
    endpoint.answer = lambda question, nth, body: Say(verdict(10 if body["model"] == "m" else 20))
    task.judge = judge_for(endpoint, tmp_path)
    first, before = task.score_all(docs, outputs), task.scoring()
    task.judge = judge_for(endpoint, tmp_path, model="better")
    second = task.score_all(docs, outputs)
    assert {item.metrics["judge_score"] for item in first} == {10.0}
    assert {item.metrics["judge_score"] for item in second} == {20.0}
    assert task.scoring() != before
    assert [item.metrics["exact_match"] for item in first] == [item.metrics["exact_match"] for item in second]


def test_without_a_judge_there_is_a_sentence(written: DirectorySource) -> None:
    task = bind("medqa-judged", written)
    assert task.needs_judge
    with pytest.raises(JudgeUnavailable, match="medqa-judged needs a judge"):
        task.score_all(task.eval_docs(), [["A"]] * 6)
    assert task.score(task.eval_docs()[0], ["A"]).metrics["judge_score"] is None
    assert not bind("medqa", written).needs_judge


def test_other_settings_keep_the_judge(written: DirectorySource, endpoint: FakeEndpoint, tmp_path: Path) -> None:
    task = bind("medqa-judged", written)
    task.judge = judge_for(endpoint, tmp_path)
    assert task.with_settings(TaskSettings(limit=2)).judge is task.judge
