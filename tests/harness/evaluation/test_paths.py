"""Which path a model takes, that it says so, and that the plain one has lm-eval's numbers too."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Gemma2Config,
    MambaConfig,
    MistralConfig,
    T5Config,
)

from harness.evaluation.lm import EvaluationLM
from harness.evaluation.paths import longest_shared
from methods.routing.context import RoutingContext
from results.ground.errors import HarnessError

from .conftest import SHAPE, text
from .test_against_hflm import check_likelihoods, generation_arguments, hflm, instances, likelihood_arguments


def compare(model: Any, tokenizer: Any, lm: EvaluationLM, tolerance: float = 1e-9) -> None:
    """Likelihoods and greedy texts equal HFLM's."""
    asked = instances("loglikelihood", likelihood_arguments(random.Random(7)))
    theirs = hflm(model, tokenizer, 1).loglikelihood(asked, disable_tqdm=True)
    check_likelihoods(lm.loglikelihood(asked), theirs, tolerance)
    asked = instances("generate_until", generation_arguments(random.Random(8)))
    assert lm.generate_until(asked) == hflm(model, tokenizer, 1).generate_until(asked, disable_tqdm=True)


def test_state_space_models_take_the_plain_path(tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = MambaConfig(
        hidden_size=32, num_hidden_layers=2, vocab_size=400, state_size=4, initializer_range=0.3,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    lm = EvaluationLM(model, tokenizer)
    compare(model, tokenizer, lm, 1e-4)
    assert lm.path == "plain"
    assert "mamba" in lm.reason
    with pytest.raises(HarnessError, match="Prefixes cannot be shared"):
        EvaluationLM(model, tokenizer, path="shared").path  # noqa: B018


def test_soft_capped_attention_takes_the_plain_path(tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = Gemma2Config(**SHAPE, num_key_value_heads=2, head_dim=8, attn_logit_softcapping=2.0, sliding_window=32)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    lm = EvaluationLM(model, tokenizer)
    compare(model, tokenizer, lm, 1e-4)
    assert (lm.path, lm.reason) == ("plain", "attention with softcap")
    assert model.config._attn_implementation == "eager"


def test_encoder_decoders(tokenizer: Any) -> None:
    torch.manual_seed(0)
    config = T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=400, n_positions=256,
        bos_token_id=0, eos_token_id=1, pad_token_id=2, decoder_start_token_id=2, initializer_factor=2.0,
    )  # fmt: skip
    model = AutoModelForSeq2SeqLM.from_config(config).double().eval()
    lm = EvaluationLM(model, tokenizer)
    rng = random.Random(9)
    asked = instances("loglikelihood", [(text(rng, 9), " " + text(rng, n)) for n in (1, 3, 2, 5)])
    check_likelihoods(lm.loglikelihood(asked), hflm(model, tokenizer, 2).loglikelihood(asked, disable_tqdm=True), 1e-9)
    # max_length there counts the encoder's tokens to the decoder's: as many new ones as asked for are compared.
    texts = [text(rng, n) for n in (4, 9, 6)]
    ours = lm.generate_until(
        instances("generate_until", [(own, {"until": ["\n"], "max_gen_toks": 8}) for own in texts])
    )
    theirs = hflm(model, tokenizer, 1).generate_until(
        instances("generate_until", [(own, {"until": ["\n"], "max_gen_toks": 8, "max_length": 9}) for own in texts]),
        disable_tqdm=True,
    )
    assert ours == theirs
    assert lm.path == "plain"


def test_settings_that_change_greedy_decoding_are_left_to_transformers(tiny: Any, tokenizer: Any) -> None:
    model = tiny("llama")
    model.generation_config.repetition_penalty = 1.3
    lm = EvaluationLM(model, tokenizer)
    compare(model, tokenizer, lm)
    assert lm.path == "shared"
    assert "repetition_penalty" in lm.generation_reason


def test_long_sequences_of_a_sliding_window_are_computed_alone(tiny: Any, tokenizer: Any) -> None:
    model = tiny("mistral")
    assert longest_shared(model) == 48
    assert longest_shared(tiny("llama")) is None
    rng = random.Random(10)
    asked = instances("loglikelihood", [(text(rng, n), " cat") for n in (5, 6, 60, 70)])
    lm = EvaluationLM(model, tokenizer)
    check_likelihoods(lm.loglikelihood(asked), hflm(model, tokenizer).loglikelihood(asked, disable_tqdm=True), 1e-9)
    assert lm._runner.passes.tokens > 0
    assert lm._runner.plain.tokens > 0


def test_rotary_lengths_bound_sharing() -> None:
    config = MistralConfig(**SHAPE, sliding_window=None)
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model = torch.nn.Module()
    model.config = config
    assert longest_shared(model) == 256


class LooksAhead(torch.nn.Module):
    """Mixes the mean over the whole sequence into a projection, as a router over sequences would."""

    def __init__(self, base: torch.nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x + x.mean(1, keepdim=True))


def test_a_model_that_mixes_tokens_is_found_out(tiny: Any, tokenizer: Any) -> None:
    model = tiny("llama")
    model.model.layers[1].self_attn.o_proj = LooksAhead(model.model.layers[1].self_attn.o_proj)
    lm = EvaluationLM(model, tokenizer)
    assert lm.path == "plain"
    assert "probe differ" in lm.reason


def test_methods_over_sequences_get_whole_ones_with_their_prompt_marked(tiny: Any, tokenizer: Any) -> None:
    model, context = tiny("llama"), RoutingContext()
    prompts: list[list[int]] = []
    caches: list[Any] = []

    def look(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        assert context.prompt_mask is not None
        prompts.append(
            (context.prompt_mask & kwargs["attention_mask"].bool()[:, : context.prompt_mask.shape[1]]).sum(1).tolist()
        )
        caches.append(kwargs.get("past_key_values"))

    lm = EvaluationLM(model, tokenizer, kv_cache=False, context=context)
    handle = model.model.register_forward_pre_hook(look, with_kwargs=True)
    pairs = [("the cat sat on", " a mat"), ("a red dog", " run")]
    lm.loglikelihood(instances("loglikelihood", pairs))
    encoded = lm.encoder.pairs(pairs)
    assert sorted(length for lengths in prompts for length in lengths) == sorted(len(own.context) for own in encoded)
    prompts.clear()
    asked = instances("generate_until", [(prompt, {"until": [], "max_gen_toks": 4}) for prompt, _ in pairs])
    ours = lm.generate_until(asked)
    assert all(row == prompts[0] for row in prompts)
    assert len(prompts) == 4
    assert caches == [None] * len(caches)
    assert context.prompt_mask is None
    handle.remove()
    assert lm.reason == "the method's weights depend on whole sequences"
    assert ours == hflm(model, tokenizer).generate_until(asked, disable_tqdm=True)


def test_methods_over_prompts_share_no_prefix_but_keep_their_cache(tiny: Any, tokenizer: Any) -> None:
    model, context = tiny("llama"), RoutingContext()
    lengths: list[int] = []

    def look(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        assert context.prompt_mask is not None
        lengths.append(kwargs["input_ids"].shape[1])

    lm = EvaluationLM(model, tokenizer, whole_prompts=True, context=context)
    assert (lm.path, lm.reason) == ("plain", "the method's weights depend on whole prompts")
    handle = model.model.register_forward_pre_hook(look, with_kwargs=True)
    asked = instances("generate_until", [("a red dog run far", {"until": [], "max_gen_toks": 4})])
    ours = lm.generate_until(asked)
    assert lengths == [len(lm.tok_encode("a red dog run far")), 1, 1, 1]
    handle.remove()
    assert ours == hflm(model, tokenizer).generate_until(asked, disable_tqdm=True)


def test_the_probe_leaves_nothing_behind(tiny: Any, tokenizer: Any) -> None:
    model, context = tiny("llama"), RoutingContext(collect=True)
    collected = []
    model.model.register_forward_pre_hook(lambda *_: collected.append(context.collect))
    assert EvaluationLM(model, tokenizer, context=context).path == "shared"
    assert collected
    assert not any(collected)
    assert context.collect
    assert model.config._attn_implementation == "sdpa"
