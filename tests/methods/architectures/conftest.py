"""Tiny random models of architectures that methods meet in the wild, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from methods.seeding import drawing_from

_DECODER: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
_EXTRA: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gemma3_text": {"head_dim": 8},
    "gemma3n_text": {
        "head_dim": 8,
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.5, 0.5],
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 64,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "layer_types": ["full_attention", "full_attention"],
        "intermediate_size": [48, 48],
    },
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 32,
    },
    "llama4_text": {
        "head_dim": 8,
        "num_local_experts": 4,
        "intermediate_size_mlp": 48,
        "interleave_moe_layer_step": 1,
        "attention_chunk_size": 64,
    },
    "falcon_h1": {**_STATES, "head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4},
    "granitemoehybrid": {
        **_STATES,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 32,
    },
    "nemotron_h": {
        "hybrid_override_pattern": "M*-E",
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "head_dim": 8,
    },
    "bamba": {**_STATES, "attn_layer_indices": [1]},
    "jamba": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
    },
}
_LACKS = {"opt": ("num_key_value_heads", "intermediate_size")}


def _values(kind: str) -> dict[str, Any]:
    if kind != "gemma3":
        values = {**_DECODER, **_EXTRA.get(kind, {})}
        return {key: value for key, value in values.items() if key not in _LACKS.get(kind, ())}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    return {
        "text_config": {**_DECODER, "head_dim": 8},
        "vision_config": {**vision, "image_size": 8, "patch_size": 4},
        "mm_tokens_per_image": 4,
        **{f"{name}_token_index": 60 + n for n, name in enumerate(("boi", "eoi", "image"))},
    }


def model_of_kind(kind: str) -> Any:
    """A tiny random model of one of transformers' types, in eval mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    # The library's fused products of experts are for float32 and narrower types.
    config = AutoConfig.for_model(kind, **_values(kind), experts_implementation="eager")
    with drawing_from(0):
        model: Any = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.15)
    return model.double().eval()


@pytest.fixture
def model_of() -> Callable[[str], Any]:
    return model_of_kind
