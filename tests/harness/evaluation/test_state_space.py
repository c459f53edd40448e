"""State-space models: a score or a text does not depend on the batch, whatever padding does to a recurrent state."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.evaluation.decode import Generation
from harness.evaluation.encode import Scored
from harness.evaluation.lm import EvaluationLM
from methods.conformance import Subject
from methods.routing.context import RoutingContext
from methods.tiny import ARCHITECTURES, VOCABULARY, tiny_model

from .test_against_hflm import check_likelihoods


def ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, VOCABULARY) for _ in range(count)]


def work() -> tuple[list[Scored], list[Generation]]:
    """Contexts and prompts of 1 to 30 tokens, some shorter than the convolution."""
    rng = random.Random(1)
    lengths = [1, 2, 3, 30, 17, 5, 17]
    items = [Scored(ids(rng, n), ids(rng, rng.randrange(1, 5))) for n in lengths for _ in range(2)]
    return items, [Generation(ids(rng, n), 7) for n in lengths]


def run(model: Any, tokenizer: Any, rows: int, context: RoutingContext | None = None, **flags: bool) -> tuple[Any, Any]:
    """Likelihoods and texts, at most `rows` rows together."""
    lm = EvaluationLM(model, tokenizer, batch_rows=rows, batch_tokens=rows * 40, context=context, **flags)
    items, jobs = work()
    assert lm.path == "plain"
    singly = [lm._runner.score([item])[0] for item in items] if rows == 1 else lm._runner.score(items)
    return singly, lm._runner.generate(jobs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["mamba", "falcon-mamba"])
def test_batches_change_nothing(kind: str, bias: bool, tokenizer: Any) -> None:
    """Also where padding becomes a bias behind the first projection, which the convolution then sees."""
    config = ARCHITECTURES[kind].config()
    config.use_bias = bias
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if "proj" in name or "conv" in name or "embed" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.double().eval()
    alone, together = (run(model, tokenizer, rows) for rows in (1, 8))
    check_likelihoods(together[0], alone[0], 1e-5)
    assert together[1] == alone[1]


@pytest.mark.parametrize("kind", ["mamba", "falcon-mamba"])
@pytest.mark.parametrize("name", ["mixer", "random", "phatgoose", "xlora", "svd"])
def test_batches_change_nothing_with_a_method(kind: str, name: str, tokenizer: Any) -> None:
    composed = Subject(name, {}, kind).fitted()
    flags = {"kv_cache": composed.kv_cache, "whole_prompts": composed.whole_prompts}
    with composed.task("a", "a"):
        alone, together = (run(composed.model, tokenizer, rows, composed.context, **flags) for rows in (1, 8))
        check_likelihoods(together[0], alone[0], 1e-5)
        assert together[1] == alone[1]
        bare = tiny_model(kind, dtype=torch.float64)
        assert run(bare, tokenizer, 8)[0] != together[0]
