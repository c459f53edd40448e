"""Versions of the engine's stages, each part of its stage's hash: they rise when equal settings give other results."""

EXPERT_VERSION = 1
"""Stage 1: which rows an expert learns from, and what is written."""
TRAINER_VERSION = 1
"""The training loop."""
EVALUATION_VERSION = 1
"""The evaluation model: outputs for the same requests."""
TUNING_VERSION = 2
"""How tuning chooses; 1 took a mean over answer tokens, nearly all of which were one task's."""
