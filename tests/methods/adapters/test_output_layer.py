"""Experts on the output layer, tied to the embedding or not: every method works, and passes may ask for few logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.training.forward import logits_at
from methods import registry
from methods.conformance import TinySession
from methods.tiny import tiny_batch, tiny_comparison, tiny_experts, tiny_llama

POOL = ("a", "b", "c", "d")
TARGETS = ("q_proj", "lm_head")
BATCH = tiny_batch()
SCOPES = {
    "mixer": ({}, {"router.scope": "per_layer"}, {"router.scope": "global"}, {"router.scope": "shared_qkv"}),
    "mole": ({}, {"gate.scope": "prompt_mean"}, {"gate.form": "input"}),
    "xlora": ({}, {"scope": "prompt_fixed"}, {"layerwise": True}),
    "lorahub": ({}, {"fold": False}),
}


def base(tied: bool) -> Any:
    model = tiny_llama(dtype=torch.float64)
    if tied:
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def run(model: Any, **options: Any) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(input_ids=BATCH.input_ids, attention_mask=BATCH.attention_mask, **options).logits
    return output


def variants() -> list[tuple[str, dict[str, Any]]]:
    return [(name, dict(overrides)) for name in registry.names() for overrides in SCOPES.get(name, ({},))]


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(("name", "overrides"), variants(), ids=str)
def test_every_method_takes_experts_on_the_output_layer(name: str, overrides: dict[str, Any], tied: bool) -> None:
    model = base(tied)
    clean = run(model)
    method = registry.create(name, overrides).within(tiny_comparison(POOL))
    method.check(model.config, POOL)
    wanted = method.depends_on(POOL, POOL[0])
    experts = [expert for expert in tiny_experts(model, POOL, targets=TARGETS) if expert.name in wanted]
    composed = method.install(model, experts, seed=0)
    try:
        method.fit(composed, TinySession())
        with composed.task("a", own="a"):
            whole = run(model)
            assert (run(model, logits_to_keep=3) - whole[:, -3:]).abs().max() <= 1e-12
            assert (run(model, logits_to_keep=torch.tensor([0, 4])) - whole[:, [0, 4]]).abs().max() <= 1e-12
            rows = torch.zeros_like(BATCH.input_ids, dtype=torch.bool)
            inputs = {"input_ids": BATCH.input_ids, "attention_mask": BATCH.attention_mask}
            for wanted_columns in ([2, 3, 4], []):
                rows[:, wanted_columns] = True
                with torch.no_grad():
                    chosen, _ = logits_at(model, rows, **inputs)
                assert torch.allclose(chosen, whole[rows], rtol=0, atol=1e-12)
                rows[:] = False
        if method.track == "compose":
            assert (whole - clean).abs().max() > 1e-4
    finally:
        composed.uninstall()
    assert torch.equal(run(model), clean)
    assert torch.equal(run(model, logits_to_keep=1), clean[:, -1:])


def test_losses_count_every_token_though_few_logits_are_wanted() -> None:
    found = []
    for options in ({}, {"logits_to_keep": 2}):
        model = base(False)
        composed = registry.create("mixer").install(model, tiny_experts(model, POOL, targets=TARGETS), seed=0)
        composed.context.training = True
        model(input_ids=BATCH.input_ids, attention_mask=BATCH.attention_mask, **options)
        found.append({name: term.value.item() for name, term in composed.losses().items()})
        composed.uninstall()
    assert found[0] == found[1]
