"""Generative tasks measured by their reference answers alone."""

from __future__ import annotations

import math

import pytest

from tasks import registry
from tasks.base import TaskSettings
from tasks.reference_answers import ReferenceAnswers
from tasks.sources import DirectorySource


@pytest.fixture(params=["gsm8k", "mbpp", "humaneval"])
def pair(request: pytest.FixtureRequest, written: DirectorySource):
    bound = registry.create(request.param).bind(written, TaskSettings(limit=5))
    return bound, ReferenceAnswers(bound)


def test_the_one_request_is_the_reference_answer(pair) -> None:
    bound, measured = pair
    for doc in measured.eval_docs():
        assert measured.requests(doc, 0) == [bound.gold_request(doc, 0)]
        assert measured.gold_request(doc, 0) is None


def test_the_score_is_what_the_task_itself_would_note_beside_its_own(pair) -> None:
    bound, measured = pair
    docs = list(measured.eval_docs())
    items = measured.score_all(docs, [[(-10.0 * math.log(2), False)] for _ in docs])
    expected = [bound.gold_bits_per_byte(doc, -10.0 * math.log(2)) for doc in docs]
    assert [item.metrics["bits_per_byte"] for item in items] == expected
    assert measured.aggregate(items) == {"bits_per_byte": (pytest.approx(sum(expected) / 5), 5)}


def test_rows_and_training_views_are_the_tasks_own(pair) -> None:
    bound, measured = pair
    assert (measured.parts, measured.fingerprint, measured.name) == (bound.parts, bound.fingerprint, bound.name)
    assert [measured.example(doc) for doc in measured.eval_docs()] == [bound.example(doc) for doc in bound.eval_docs()]


def test_neither_a_judge_nor_a_sandbox_is_asked(pair) -> None:
    _, measured = pair
    assert not (measured.needs_judge)
    assert not (measured.runs_code)
    assert not (measured.generative)


def test_settings_that_generate_keep_their_hash() -> None:
    assert "answers" not in TaskSettings().model_dump(mode="json")
    assert TaskSettings(answers="reference").model_dump(mode="json")["answers"] == "reference"


def test_a_task_with_choices_has_no_reference_answer(written: DirectorySource) -> None:
    with pytest.raises(ValueError, match="no reference answer"):
        ReferenceAnswers(registry.create("arc-e").bind(written, TaskSettings()))
