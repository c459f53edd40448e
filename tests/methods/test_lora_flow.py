"""LoRA-Flow: one dense gate for all sites of a layer, and offsets that let weights leave the simplex."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.agreements import agreed
from methods.lora_flow import FlowBank, FlowGate, FlowRouterConfig
from methods.routing.composed import RoutedComposed
from methods.routing.inject import layer_of
from methods.routing.sparsify import DENSE
from methods.tiny import TinySession, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def compose(**overrides: Any) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create("lora-flow", overrides).install(model, tiny_experts(model, NAMES), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def test_layer_equals_a_loop(naive: Any, logits: Any) -> None:
    """The first site's input decides for q, k, v and o; offsets are added after the softmax."""
    composed = compose()
    parameters = composed.groups()["routers"]
    assert len(parameters) == 2 * 2
    with torch.no_grad():
        for seed, parameter in enumerate(parameters.values()):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    by_layer = {layer_of(key.removeprefix("routers.")): key.rpartition(".")[0] for key in parameters}
    decided: dict[str, Tensor] = {}

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        layer = layer_of(path)
        if path.endswith("q_proj"):
            R, b = (parameters[f"{by_layer[layer]}.{leaf}"].detach() for leaf in ("weight", "offset"))
            decided[layer] = (x @ R.T).softmax(-1) + b
        return decided[layer]

    expected = logits(naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), weigh))
    assert (logits(composed.model) - expected).abs().max() < 1e-9


def test_weights_are_the_authors_arithmetic() -> None:
    """softmax(gate(x) / temperature) + bias, as in `TransformerBlock.forward` of the released code; with gradients."""
    bound = agreed("lora-flow", "thunlp/LoRAFlow")
    gate = FlowGate(3, 8, FlowRouterConfig(), name="site", seed=0, like=draw(1))
    with torch.no_grad():
        gate.offset.copy_(draw(3, seed=1))
    x = draw(2, 5, 8, seed=2)
    bank = FlowGate.bank([gate])
    assert isinstance(bank, FlowBank)
    ours = bank.weights(bank.logits(x, x), x, DENSE, True)[..., 0, :]
    theirs = torch.softmax(torch.nn.functional.linear(x, gate.weight) / 1, dim=-1) + gate.offset[None]
    assert bound.output is not None
    assert bound.gradient is not None
    assert (ours - theirs).abs().max() < bound.output
    towards = draw(2, 5, 3, seed=3)
    leaves = (gate.weight, gate.offset)
    one, two = (torch.autograd.grad((w * towards).sum(), leaves) for w in (ours, theirs))
    assert max((a - b).abs().max() for a, b in zip(one, two, strict=True)) < bound.gradient


def test_training_moves_offsets_and_sums_leave_one() -> None:
    composed = compose()
    registry.create("lora-flow").fit(composed, TinySession(steps=5))
    offsets = [p for key, p in composed.groups()["routers"].items() if key.endswith("offset")]
    assert all(bool((p.detach() != 0).all()) for p in offsets)
    assert any(abs(p.detach().sum().item()) > 1e-4 for p in offsets)


@pytest.mark.parametrize(("scope", "gates"), [("per_layer", 2), ("global", 1), ("per_projection", 8)])
def test_gates_by_scope(scope: str, gates: int) -> None:
    assert len(compose(**{"router.scope": scope}).groups()["routers"]) == 2 * gates
