"""Tiny models are what their names say: what makes an architecture different is there and matters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from methods.experts import linear_sites
from methods.tiny import ARCHITECTURES, architecture_of, model_logits, tiny_batch, tiny_experts, tiny_llama, tiny_model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_tiny_model_follows_from_its_seed(name: str) -> None:
    one, two, other = tiny_model(name), tiny_model(name), tiny_model(name, seed=1)
    ids = tiny_batch().input_ids
    with torch.no_grad():
        first = model_logits(one, ids)
        assert first.shape == (8, 12, 64)
        assert torch.equal(first, model_logits(two, ids))
        assert not torch.allclose(first, model_logits(other, ids), atol=1e-2)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_target_carries_experts_and_matters(name: str) -> None:
    model = tiny_model(name, dtype=torch.float64)
    architecture = architecture_of(model)
    assert architecture is ARCHITECTURES[name]
    assert {site.rpartition(".")[2] for site in tiny_experts(model)[0].sites} == set(architecture.targets)
    ids = tiny_batch().input_ids
    with torch.no_grad():
        before = model_logits(model, ids)
        for linear in linear_sites(model, architecture.targets).values():
            kept = linear.weight.clone()
            linear.weight[:, 0] += 0.1
            assert not torch.allclose(model_logits(model, ids), before, atol=1e-6)
            linear.weight.copy_(kept)


def test_mistral_has_one_key_value_head_and_a_window_that_cuts() -> None:
    model = tiny_model("mistral", dtype=torch.float64)
    attention = model.model.layers[0].self_attn
    assert attention.k_proj.out_features * 4 == attention.q_proj.out_features
    ids = tiny_batch().input_ids[:1]
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 7) % 60 + 3
    with torch.no_grad():
        gap = (model_logits(model, ids) - model_logits(model, changed)).abs().amax(-1)[0]
    reach = 2 * (ARCHITECTURES["mistral"].values["sliding_window"] - 1)
    assert bool((gap[: reach + 1] > 0).all())
    assert bool((gap[reach + 1 :] == 0).all())


@pytest.mark.parametrize(
    ("name", "parts"),
    [("qwen2", ("q_proj.bias", "k_proj.bias", "v_proj.bias")), ("qwen3", ("q_norm.weight", "k_norm.weight"))],
)
def test_qwen_has_the_parameters_that_llama_lacks(name: str, parts: tuple[str, ...]) -> None:
    model: nn.Module = tiny_model(name, dtype=torch.float64)
    llama = {key for key, _ in tiny_llama().named_parameters()}
    assert not any(key.endswith(parts) for key in llama)
    ids = tiny_batch().input_ids
    for part in parts:
        parameter: Any = model.get_parameter(f"model.layers.0.self_attn.{part}")
        with torch.no_grad():
            before, kept = model_logits(model, ids), parameter.clone()
            parameter[0] += 1.0
            changed = not torch.allclose(model_logits(model, ids), before, atol=1e-9)
            parameter.copy_(kept)
        assert changed, part


def test_a_model_of_no_tiny_architecture_is_refused() -> None:
    model = nn.Module()
    model.config = type("Config", (), {"model_type": "gpt2"})()
    with pytest.raises(ValueError, match="no tiny architecture of type gpt2"):
        architecture_of(model)
