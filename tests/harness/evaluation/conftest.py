"""Tiny random models and a tokenizer made on the spot."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

SENTENCE = "the cat sat on a mat and saw one red dog run far from its old home while rain fell in town all day"
WORDS = SENTENCE.split()


def text(rng: random.Random, words: int) -> str:
    """Space-separated words, with digits and line breaks now and then."""
    return " ".join(rng.choice([*WORDS, str(rng.randrange(100)), "so\n"]) for _ in range(words))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 400 tokens; adds no BOS."""
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    rng = random.Random(0)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator([text(rng, 200) for _ in range(20)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 400,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "max_position_embeddings": 256,
    # Far from uniform, so that an error in a mask or a position shows.
    "initializer_range": 0.3,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SHAPE, num_key_value_heads=4),
    "qwen2": lambda: Qwen2Config(**SHAPE, num_key_value_heads=2),
    "mistral": lambda: MistralConfig(**SHAPE, num_key_value_heads=1, sliding_window=48),
    "gpt2": lambda: GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        vocab_size=400,
        n_positions=256,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.3,
    ),
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Any]:
    """Makes a random model in evaluation mode: `tiny("llama", torch.float64)`."""

    def make(kind: str, dtype: torch.dtype = torch.float64) -> Any:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(CONFIGS[kind]()).to(dtype).eval()

    return make
