"""PEFT's X-LoRA over a pool of experts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from methods.base import Expert
from methods.experts import save_expert


def xlora(model: Any, experts: Sequence[Expert], folder: Path, *, top_k: int) -> Any:
    """The model with the experts in PEFT's own X-LoRA, untrained classifier; `model` is changed.

    Args:
        model: a transformers model.
        experts: the pool.
        folder: receives one adapter directory per expert.
        top_k: experts whose scalings are kept.
    """
    from peft import XLoraConfig, get_peft_model

    adapters = {}
    for index, expert in enumerate(experts):
        save_expert(expert, folder / expert.name, base_model="")
        adapters[str(index)] = str(folder / expert.name)
    model.config.use_cache = False
    config = XLoraConfig(
        task_type="CAUSAL_LM", hidden_size=model.config.hidden_size, xlora_depth=1, adapters=adapters, top_k_lora=top_k
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, config)
