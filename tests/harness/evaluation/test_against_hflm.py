"""The evaluation model's numbers are lm-evaluation-harness's own model's numbers."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from harness.evaluation.lm import EvaluationLM

from .conftest import text

KINDS = ["llama", "qwen2", "mistral", "gpt2"]


def hflm(model: Any, tokenizer: Any, batch_size: int = 1, **settings: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, **settings)


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]


def likelihood_arguments(rng: random.Random) -> list[tuple[str, str]]:
    """Fixed few-shot items, per-item prefixes, repeated and one-token choices, odd spaces, empty contexts."""
    shots = text(rng, 30) + "\n\n"
    found: list[tuple[str, str]] = []
    for i in range(6):
        question = text(rng, rng.randrange(2, 8))
        own = shots if i % 3 else text(rng, 20) + "\n"
        found += [(own + question, " " + text(rng, rng.randrange(1, 5))) for _ in range(rng.randrange(2, 5))]
        found += [(own + question + "\nAnswer:", f" {letter}") for letter in "abc"]
    found += [(shots + "a cat ", "sat"), (shots + "a cat", " sat"), ("", "the cat sat"), ("", "a"), ("a", " mat")]
    found += [(shots, "a red dog"), (shots + " ", "a red dog"), ("<s>one dog", " sat")]
    found += [found[0], found[3]]
    rng.shuffle(found)
    return found


def generation_arguments(rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    shots = text(rng, 25) + "\n\n"
    found: list[tuple[str, dict[str, Any]]] = []
    for i in range(9):
        prompt = (shots if i % 3 else "") + text(rng, rng.randrange(1, 12))
        until = [["\n"], ["cat", "e"], [" the", "zz"], []][i % 4]
        found.append((prompt, {"until": until, "max_gen_toks": rng.randrange(1, 25), "do_sample": False}))
    found.append((text(rng, 300), {"until": ["\n\n"], "max_gen_toks": 30}))
    return found


def check_likelihoods(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]], tolerance: float) -> None:
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    for (value, _), (other, _) in zip(ours, theirs, strict=True):
        assert value == pytest.approx(other, abs=tolerance)


@pytest.mark.parametrize("path", ["shared", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_likelihoods(kind: str, path: Any, tiny: Any, tokenizer: Any) -> None:
    model = tiny(kind)
    asked = instances("loglikelihood", likelihood_arguments(random.Random(1)))
    lm = EvaluationLM(model, tokenizer, path=path, batch_tokens=200)
    ours = lm.loglikelihood(asked)
    check_likelihoods(ours, hflm(model, tokenizer, 3).loglikelihood(asked, disable_tqdm=True), 1e-9)
    assert lm.path == path
    assert len({round(value, 6) for value, _ in ours}) > 20


def test_one_text_split_at_two_places(tiny: Any, tokenizer: Any) -> None:
    """lm-eval's logits cache takes the shorter continuation's logits from the start of the longer one: not so here."""
    model = tiny("llama")
    asked = instances("loglikelihood", [("", "the cat sat"), ("<s>the cat", " sat")])
    theirs = hflm(model, tokenizer, 2, logits_cache=False).loglikelihood(asked, disable_tqdm=True)
    check_likelihoods(EvaluationLM(model, tokenizer).loglikelihood(asked), theirs, 1e-9)


def test_likelihoods_in_float32(tiny: Any, tokenizer: Any) -> None:
    model = tiny("llama", torch.float32)
    asked = instances("loglikelihood", likelihood_arguments(random.Random(2)))
    ours = EvaluationLM(model, tokenizer).loglikelihood(asked)
    check_likelihoods(ours, hflm(model, tokenizer, 4).loglikelihood(asked, disable_tqdm=True), 1e-4)


@pytest.mark.parametrize("path", ["shared", "plain"])
def test_long_contexts_are_cut_on_the_left_and_counted(path: Any, tiny: Any, tokenizer: Any) -> None:
    model, rng = tiny("llama"), random.Random(3)
    asked = instances("loglikelihood", [(text(rng, 150), " the cat"), (text(rng, 5), " sat"), (text(rng, 200), " on")])
    lm = EvaluationLM(model, tokenizer, path=path, max_length=64)
    theirs = hflm(model, tokenizer, max_length=64).loglikelihood(asked, disable_tqdm=True)
    check_likelihoods(lm.loglikelihood(asked), theirs, 1e-9)
    assert lm.truncated == 2


@pytest.mark.parametrize("path", ["shared", "plain"])
def test_rolling_likelihoods(path: Any, tiny: Any, tokenizer: Any) -> None:
    model, rng = tiny("qwen2"), random.Random(4)
    asked = instances("loglikelihood_rolling", [(text(rng, n),) for n in (3, 40, 130)])
    ours = EvaluationLM(model, tokenizer, path=path, max_length=50, batch_tokens=120).loglikelihood_rolling(asked)
    theirs = hflm(model, tokenizer, max_length=50).loglikelihood_rolling(asked, disable_tqdm=True)
    assert ours == pytest.approx(theirs, abs=1e-8)


@pytest.mark.parametrize("path", ["shared", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_texts(kind: str, path: Any, tiny: Any, tokenizer: Any) -> None:
    model = tiny(kind)
    asked = instances("generate_until", generation_arguments(random.Random(5)))
    lm = EvaluationLM(model, tokenizer, path=path, batch_rows=3, batch_tokens=200)
    # One at a time: a batch of HFLM stops only when the same stop string has shown in all of its rows.
    theirs = hflm(model, tokenizer, 1).generate_until(asked, disable_tqdm=True)
    assert lm.generate_until(asked) == theirs
    assert len(set(theirs)) > 5


def test_added_bos(tiny: Any, tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    with_bos = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    model, rng = tiny("llama"), random.Random(6)
    asked = instances("loglikelihood", likelihood_arguments(rng))
    theirs = hflm(model, with_bos, 2).loglikelihood(asked, disable_tqdm=True)
    check_likelihoods(EvaluationLM(model, with_bos).loglikelihood(asked), theirs, 1e-9)
    asked = instances("generate_until", generation_arguments(rng))
    theirs = hflm(model, with_bos, 1).generate_until(asked, disable_tqdm=True)
    assert EvaluationLM(model, with_bos).generate_until(asked) == theirs
