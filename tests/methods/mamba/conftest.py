"""Tiny random state-space models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from methods.tiny import VOCABULARY

KINDS = ("mamba", "falcon_mamba")


def tiny_mamba(kind: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A random model with 2 layers, width 32 and inner width 64, in eval mode; its values are exact in float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "state_size": 8,
        "num_hidden_layers": 2,
        "time_step_rank": 6,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = AutoConfig.for_model(kind, **{**settings, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model: Any = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("proj.weight") or "embed" in name or "conv1d.bias" in name:
                nn.init.normal_(parameter, std=0.3)
            elif name.endswith(".D"):
                nn.init.uniform_(parameter, 0.5, 1.5)
    return model.to(dtype=dtype).eval()


@pytest.fixture
def mamba() -> Callable[..., Any]:
    return tiny_mamba


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
