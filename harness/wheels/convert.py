"""GGUF to a folder of safetensors, configuration and tokenizer.

Weights are stored as float32, which holds what the quantised blocks say: of the values that Q4_K, Q6_K and Q8_0 blocks
stand for, two to eight in a hundred are bfloat16 numbers and twelve to twenty-one are float16 numbers (relative errors
1.7e-3 and 2e-4 of a tensor's norm, measured on both models that come in Q4_K_M). `model.dtype` rounds where that is
wanted.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.ground.errors import HarnessError
from results.ground.files import atomic_folder
from results.ground.loading import model_of

SAME = 0.25
"""Relative difference (Frobenius) up to which two quantisations can be of one matrix; 4 bits differ by about 0.1."""


def convert(gguf: Path, folder: Path, *, tie: bool = False, end_tokens: Sequence[str] = ()) -> None:
    """Write a model of a GGUF file to a folder, which appears whole or not at all.

    Args:
        gguf: the file.
        folder: where to.
        tie: make head and embeddings one matrix, for a file that stores two quantisations of one.
        end_tokens: that end an answer, where the file keeps one of several.

    Raises:
        HarnessError: a tensor is missing, or head and embeddings are two matrices.
    """
    # transformers reads GGUF but refuses to save a model that came from one: the weights move to a fresh model.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with atomic_folder(folder) as staging:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read: Any = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        loaded, loading = read
        if absent := sorted(loading["missing_keys"]):
            raise HarnessError(f"The file {gguf} lacks the tensor {absent[0]}: fetch it again.")
        if hasattr(loaded.config, "quantization_config"):
            del loaded.config.quantization_config
        if tie and not loaded.config.tie_word_embeddings:
            _tie(loaded, gguf)
        fresh = model_of(loaded.config)
        fresh.load_state_dict(loaded.state_dict())
        if end_tokens:
            fresh.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(list(end_tokens))
        fresh.save_pretrained(staging)
        tokenizer.save_pretrained(staging)


def _tie(model: Any, gguf: Path) -> None:
    """Give head and embeddings the values of the one that is stored in more bits, and say so in the configuration."""
    import torch

    head, embeddings = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    with torch.no_grad():
        apart = float((head - embeddings).norm() / head.norm())
        if not apart <= SAME:
            raise HarnessError(
                f"Head and embeddings of {gguf} differ by {apart:.0%} and are not one matrix: convert it untied."
            )
        bits = _bits(gguf)
        finer = head if bits["output.weight"] >= bits["token_embd.weight"] else embeddings
        embeddings.copy_(finer)
        head.copy_(finer)
    model.config.tie_word_embeddings = True


def _bits(gguf: Path) -> dict[str, float]:
    """Bits for a weight of each tensor of a file."""
    from gguf import GGML_QUANT_SIZES, GGUFReader

    sizes = {tensor.name: GGML_QUANT_SIZES[tensor.tensor_type] for tensor in GGUFReader(gguf).tensors}
    return {name: 8 * size / block for name, (block, size) in sizes.items()}
