"""Stage 1: hard routing by domain is training each expert alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.base import Composed, Expert
from methods.experts import new_expert
from methods.lora import Lora
from methods.routing.build import install_hard
from methods.tiny import TARGETS, TinyBatch, tiny_batch, tiny_experts, tiny_llama, window_gradient

NAMES = ("a", "b", "c")


def fresh(model: nn.Module, names: Sequence[str] = NAMES) -> list[Expert]:
    return [new_expert(name, model, TARGETS, r=4, lora_alpha=8, seed=0) for name in names]


def train(composed: Composed, windows: Sequence[TinyBatch]) -> None:
    parameters = list(composed.groups()["experts"].values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    for window in windows:
        window_gradient(composed, [window])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def single_domain(domain: int, seed: int) -> TinyBatch:
    batch = tiny_batch(4, seed=seed)
    return TinyBatch(batch.input_ids, batch.attention_mask, batch.labels, torch.full((4,), domain))


def test_domain_stream_equals_separate_training() -> None:
    """After a domain-mixed stream, expert d equals one trained on the d-subsequence alone, idle ones untouched.

    With windows of one domain each, constant rate, and weight decay on: an expert with a zero gradient instead of none
    would decay.
    """
    stream = [0, 1, 0, 0, 1]
    windows = [single_domain(domain, seed) for seed, domain in enumerate(stream)]
    model = tiny_llama(dtype=torch.float64)
    start = fresh(model)
    together = install_hard(model, start)
    train(together, windows)
    trained = {name: together.expert(name) for name in NAMES}
    together.uninstall()
    for number, name in enumerate(NAMES[:2]):
        alone = install_hard(model, fresh(model, [name]))
        train(alone, [window for window, domain in zip(windows, stream, strict=True) if domain == number])
        for site, factors in alone.expert(name).sites.items():
            assert (factors.A - trained[name].sites[site].A).abs().max() < 1e-10
            assert (factors.B - trained[name].sites[site].B).abs().max() < 1e-10
            assert factors.B.abs().max() > 1e-3
        alone.uninstall()
    for site, factors in start[2].sites.items():
        assert torch.equal(trained["c"].sites[site].A, factors.A.double())
        assert torch.equal(trained["c"].sites[site].B, factors.B.double())


def test_mixed_batches_route_by_sequence() -> None:
    """In a batch of several domains each expert's gradient is that of its own sequences."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    batch = tiny_batch(6, domains=2)
    composed = install_hard(model, experts)
    window_gradient(composed, [batch])
    gradients = {name: p.grad for name, p in composed.groups()["experts"].items()}
    composed.uninstall()
    targets = int((batch.labels[:, 1:] != -100).sum())
    for number, name in enumerate(NAMES):
        rows = batch.domain == number
        if not rows.any():
            assert all(g is None for key, g in gradients.items() if key.startswith(f"experts.{name}."))
            continue
        alone = install_hard(model, [experts[number]])
        own = TinyBatch(batch.input_ids[rows], batch.attention_mask[rows], batch.labels[rows], batch.domain[rows])
        window_gradient(alone, [own])
        share = int((own.labels[:, 1:] != -100).sum()) / targets
        for key, parameter in alone.groups()["experts"].items():
            assert parameter.grad is not None
            assert gradients[key] is not None
            assert (parameter.grad * share - gradients[key]).abs().max() < 1e-12
        alone.uninstall()


def test_trained_expert_is_the_lora_row(logits: Any) -> None:
    """The handle that trains an expert and the frozen row made from it compute the same."""
    model = tiny_llama(dtype=torch.float64)
    composed = install_hard(model, fresh(model, ["a"]))
    train(composed, [tiny_batch(seed=1)])
    expected = logits(model)
    expert = composed.expert("a")
    composed.uninstall()
    row = Lora().install(model, [expert], seed=0)
    assert (logits(model) - expected).abs().max() < 1e-10
    row.uninstall()
    hard = install_hard(model, [expert, *fresh(model, ["b"])], train_experts=False)
    with hard.task("task of a", "a"):
        assert (logits(model) - expected).abs().max() < 1e-10


def test_dropout_is_one_mask_for_all_experts_and_only_in_training(logits: Any) -> None:
    """Dropout acts on x before A, alike for all experts of a site, and not in evaluation."""
    model = tiny_llama(dtype=torch.float64)
    expert = tiny_experts(model, ["a"])[0]
    composed = install_hard(model, [expert], dropout=0.5)
    plain = logits(model)
    model.train()
    torch.manual_seed(0)
    noisy = logits(model)
    assert (noisy - plain).abs().max() > 1e-3
    model.eval()
    assert torch.equal(logits(model), plain)
    composed.uninstall()

    twins = install_hard(model, [expert, Expert("b", expert.sites)], dropout=0.5)
    twins.context.training = True
    model.train()
    outputs: list[Tensor] = []
    for domain in (0, 1):
        twins.context.domain = torch.full((8,), domain)
        torch.manual_seed(0)
        outputs.append(logits(model))
    assert (outputs[0] - outputs[1]).abs().max() < 1e-10
    model.eval()


def test_experts_of_unequal_rank_train() -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = [tiny_experts(model, ["a"], rank=2)[0], tiny_experts(model, ["b"], rank=5)[0]]
    composed = install_hard(model, experts)
    window_gradient(composed, [tiny_batch(domains=2)])
    for name, parameter in composed.groups()["experts"].items():
        rank = 2 if name.startswith("experts.a.") else 5
        assert rank in parameter.shape
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_lora_takes_one_expert() -> None:
    from methods.base import Unsupported

    model = tiny_llama()
    with pytest.raises(Unsupported, match="takes one expert alone and was given 3"):
        Lora().install(model, tiny_experts(model, NAMES), seed=0)
    assert not Lora().serves(NAMES, "x")
    assert Lora().depends_on(NAMES, None) == ()
