"""Folders of tiny random models that read the bundled tokenizer's text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

WORDS = 4096
"""Tokens of the vocabulary: a head of the bundled model's 49,152 would be most of what a tiny model computes."""


def save(model: Any, folder: Path, bundled: Path) -> Path:
    """A model and the bundled tokenizer's first `WORDS` tokens in a folder; longer words are spelled with these."""
    model.save_pretrained(folder)
    described = json.loads((bundled / "tokenizer.json").read_text())
    table = described["model"]
    vocabulary = {token: number for token, number in table["vocab"].items() if number < WORDS}
    table["vocab"] = vocabulary
    table["merges"] = [pair for pair in table["merges"] if "".join(pair) in vocabulary]
    (folder / "tokenizer.json").write_text(json.dumps(described))
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(bundled / name, folder)
    return folder


def llama(folder: Path, bundled: Path) -> Path:
    """A random two-layer Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    return save(LlamaForCausalLM(config), folder, bundled)
