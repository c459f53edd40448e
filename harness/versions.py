"""Versions of the engine's stages, each part of its stage's hash: they rise when equal settings give other results."""

EXPERT_VERSION = 2
"""Stage 1: an expert's rows, and what is written; 1 had BOS twice where tokenizer and template both add it."""
TRAINER_VERSION = 2
"""The training loop; 1 had rows with two BOS likewise."""
EVALUATION_VERSION = 1
"""The evaluation model: outputs for the same requests."""
WINDOW_STATISTICS_VERSION = 2
"""The pass over a window before its own, of methods that take one (`stats_scope=accum`); 1 read routers as they had
been before the first step."""
TUNING_VERSION = 3
"""How tuning chooses; 1 took a mean over answer tokens, nearly all of which were one task's, 2 let weights that
a prompt fixes see the answer."""
