"""MeteoRA: gates that are taught whose example a token is of, and told nothing at test time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.agreements import agreed
from methods.meteora import own_loss
from methods.routing.composed import RoutedComposed
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def compose(**overrides: Any) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create("meteora", overrides).install(model, tiny_experts(model, NAMES), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def test_the_layer_is_mixers(logits: Any) -> None:
    """Before training: LoRA-Mixer's gates with two experts kept, from the same initial values."""
    model = tiny_llama(dtype=torch.float64)
    two = {"route.train_k": 2, "route.eval_k": 2}
    registry.create("mixer-none", two).install(model, tiny_experts(model, NAMES), seed=0)
    assert torch.equal(logits(compose().model), logits(model))


def test_gate_loss_is_the_authors_arithmetic() -> None:
    """One cross-entropy over the stacked logits of all gates and tokens, each with its row's label, as in
    `lora_gate_loss_func`: value and gradient."""
    bound = agreed("meteora", "NJUDeepEngine/meteora")
    gates = [draw(3, 5, 4, seed=n).requires_grad_() for n in range(6)]
    labels = torch.tensor([2, 0, 3])
    stacked = torch.cat([gate.flatten(0, 1) for gate in gates])
    theirs = torch.nn.functional.cross_entropy(stacked, labels[:, None].expand(3, 5).flatten().repeat(6))
    ours = own_loss(torch.stack(gates, 2), labels).mean((0, 1)).mean()
    assert bound.loss is not None
    assert bound.gradient is not None
    assert abs(ours.item() - theirs.item()) < bound.loss
    for one, two in zip(torch.autograd.grad(ours, gates), torch.autograd.grad(theirs, gates), strict=True):
        assert (one - two).abs().max() < bound.gradient


def test_rows_without_an_expert_teach_nothing() -> None:
    logits = draw(2, 3, 1, 4).requires_grad_()
    losses = own_loss(logits, torch.tensor([-1, 1]))
    assert (losses[0] == 0).all()
    losses.sum().backward()
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).all()


def test_the_term_counts_real_tokens_over_all_gates() -> None:
    composed, batch = compose(), tiny_batch()
    context = composed.context
    context.training, context.domain = True, batch.domain
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    mask = batch.attention_mask.bool()
    logs = [-r.record.logits.log_softmax(-1) for r in composed.routers if r.record is not None]
    own = torch.cat([log[torch.arange(8), :, :, batch.domain] for log in logs], -1)
    term = composed.losses()["gate"]
    assert term.coefficient == 50
    assert term.value.item() == pytest.approx(own[mask].mean().item(), rel=1e-12)


@pytest.mark.parametrize("coef", [50.0, 0.0])
def test_gates_learn_whose_rows_they_see(coef: float) -> None:
    """With the loss the own expert's probability rises on the rows it is trained on; it is no term at 0."""
    composed, session = compose(**{"loss.gate.coef": coef}), TinySession(steps=20)
    session._batch = lambda composed, data, step: tiny_batch()  # type: ignore[method-assign]
    registry.create("meteora", {"loss.gate.coef": coef}).fit(composed, session)
    if coef:
        assert session.log[-1]["gate"] < 0.9 * session.log[0]["gate"]
    else:
        assert "gate" not in session.log[0]
