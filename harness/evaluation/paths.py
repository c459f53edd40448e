"""Whether a model can be computed with shared prefixes, and up to which length; the reason is kept where it cannot."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import get_layer_types_and_kwargs

from harness.evaluation.decode import Decoder, Generation
from harness.evaluation.encode import Scored
from harness.evaluation.likelihood import TreeScorer
from harness.evaluation.passes import SharedPasses
from harness.evaluation.stopping import Stops
from methods.routing.frozen import input_device, rounds_products

_FULL_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}

# Settings of a model's generation config that change even greedy decoding.
_ALTERS_GREEDY = (
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "min_new_tokens",
    "exponential_decay_length_penalty",
    "guidance_scale",
    "watermarking_config",
    "num_beams",
)
_NEUTRAL = (None, 0, 1, 1.0, False)

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
_ROUNDED = 5e-2
"""Where factors are rounded to 8 bits."""


def obstacle(model: nn.Module) -> str | None:
    """Why a model's architecture rules shared prefixes out, or None."""
    config: Any = model.config
    if config.is_encoder_decoder:
        return "an encoder-decoder model"
    if not getattr(model, "_supports_attention_backend", False):
        return f"{config.model_type} does not take its attention from transformers' interface"
    kinds, _ = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
    other = sorted(set(kinds) - _FULL_ATTENTION)
    return f"layers of type {', '.join(other)}" if other else None


def generation_obstacle(model: nn.Module) -> str | None:
    """Which setting of the generation config changes greedy decoding, so that transformers must decode; or None."""
    config = getattr(model, "generation_config", None)
    changed = [name for name in _ALTERS_GREEDY if getattr(config, name, None) not in _NEUTRAL]
    return f"generation config sets {', '.join(changed)}" if changed else None


def longest_shared(model: nn.Module) -> int | None:
    """Tokens up to which a sequence sees all of itself at fixed positions; longer ones are computed alone.

    Sliding windows and attention chunks are full attention up to their size; rotary embeddings that change with the
    length of a batch are fixed up to the length they were trained on.
    """
    config: Any = model.config.get_text_config(decoder=True)  # type: ignore[union-attr, operator]
    _, kwargs = get_layer_types_and_kwargs(config)
    limits = [own["sliding_window"] for own in kwargs if own.get("sliding_window")]
    rope = getattr(config, "rope_parameters", None) or {}
    limits += [
        own.get("original_max_position_embeddings") or config.max_position_embeddings
        for own in [rope, *(value for value in rope.values() if isinstance(value, dict))]
        if own.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(limits, default=None)


def deviation(model: nn.Module, tokenizer: Any) -> str | None:
    """Compare shared passes with the model's own on a few fixed tokens: what differs, or None.

    Covers a prefix, a row with branches, ragged rows, and decoding; independent of the tokens' meaning.
    """
    ids = [(7919 * i + 13) % model.config.get_text_config(decoder=True).vocab_size for i in range(24)]  # type: ignore[union-attr, operator]
    items = [
        Scored(ids[:9], ids[9:12]),
        Scored(ids[:9], ids[14:18]),
        Scored([*ids[:5], *ids[18:]], ids[1:3]),
    ]
    scale, expected = 0.0, []
    for item in items:
        logits = _own_logits(model, item.inputs)[-len(item.targets) :]
        scale = max(scale, float(logits.max() - logits.min()))
        chosen = logits.log_softmax(-1)[range(len(item.targets)), item.targets]
        expected.append(float(chosen.sum()))
    dtype = next(model.parameters()).dtype
    exact = dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest"
    exact = exact and not rounds_products(model)
    allowed = (_TOLERANCE.get(dtype, _ROUNDED) if exact else _ROUNDED) * scale
    passes = SharedPasses(model)
    for overhead in (0, 64):
        found = TreeScorer(passes, batch_tokens=512, overhead=overhead).score(items)
        worst = max(abs(own.loglikelihood - other) for own, other in zip(found, expected, strict=True))
        if not worst <= allowed:
            return f"log-likelihoods of a probe differ by {worst:.2g} nats"
    decoder = Decoder(passes, Stops(tokenizer, []), rows=2, batch_tokens=512, cache_bytes=1 << 30)
    prompts = [item.inputs for item in items]
    for prompt, made in zip(prompts, decoder.generate([Generation(p, 3) for p in prompts]), strict=True):
        logits = _own_logits(model, [*prompt, *made[:-1]])[-len(made) :]
        lost = float((logits.max(-1).values - logits[range(len(made)), made]).max())
        if not lost <= allowed:
            return f"a probe's decoded tokens are {lost:.2g} below the best logits"
    return None


def _own_logits(model: nn.Module, ids: list[int]) -> torch.Tensor:
    """`[t, vocabulary]` in at least float32, without a cache."""
    tokens = torch.tensor([ids], device=input_device(model))
    logits: torch.Tensor = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits[0]
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
