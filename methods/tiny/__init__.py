"""Tiny random models, experts and an engine of a few lines: a method is tried in a second, without downloads."""

from methods.tiny.experts import TARGETS, planned_pool, tiny_comparison, tiny_experts, uneven_experts
from methods.tiny.models import (
    ARCHITECTURES,
    VOCABULARY,
    TinyArchitecture,
    architecture_of,
    model_logits,
    tiny_llama,
    tiny_model,
)
from methods.tiny.session import GENERATED, TinyBatch, TinySession, generate, left_padded, tiny_batch, window_gradient

__all__ = [
    "ARCHITECTURES",
    "GENERATED",
    "TARGETS",
    "VOCABULARY",
    "TinyArchitecture",
    "TinyBatch",
    "TinySession",
    "architecture_of",
    "generate",
    "left_padded",
    "model_logits",
    "planned_pool",
    "tiny_batch",
    "tiny_comparison",
    "tiny_experts",
    "tiny_llama",
    "tiny_model",
    "uneven_experts",
    "window_gradient",
]
