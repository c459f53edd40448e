"""Every method evaluates alike by the shared path and by the plain one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.evaluation.decode import Generation
from harness.evaluation.encode import Scored
from harness.evaluation.lm import EvaluationLM
from methods import registry
from methods.conformance import Subject
from methods.tiny import VOCABULARY

from .test_against_hflm import check_likelihoods


def ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, VOCABULARY) for _ in range(count)]


@pytest.mark.parametrize("name", registry.names())
def test_methods_evaluate_alike_by_both_paths(name: str, tokenizer: Any) -> None:
    composed = Subject(name).fitted()
    rng = random.Random(1)
    shots, questions = ids(rng, 20), [ids(rng, rng.randrange(3, 9)) for _ in range(4)]
    items = [Scored([*shots, *question], ids(rng, rng.randrange(1, 4))) for question in questions for _ in range(3)]
    jobs = [Generation([*shots, *question], 6) for question in questions]
    found = {}
    with composed.task("a", "a" if "a" in composed.experts else None):
        for path in ("auto", "plain"):
            lm = EvaluationLM.of(composed, tokenizer, path=path)
            found[path] = lm._runner.score(items), lm._runner.generate(jobs)
            shares = composed.kv_cache and not composed.whole_prompts and path == "auto"
            assert lm.path == ("shared" if shares else "plain"), lm.reason
    check_likelihoods(found["auto"][0], found["plain"][0], 1e-8)
    assert found["auto"][1] == found["plain"][1]
