"""Training and scoring of encoder-decoder models: what they are given, and losses that no window's cut changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.training.data import Encoded, collate, micro_batches
from harness.training.forward import target_count, target_cross_entropy, target_logits
from harness.training.loop import Recipe, train, window_backward
from methods import registry
from methods.base import Composed
from methods.routing.composed import RoutedComposed
from methods.tiny import tiny_comparison, tiny_experts, tiny_model


def rows(n: int = 8) -> list[Encoded]:
    """Prompts of 3 to 14 tokens, targets of 1 to 4."""
    draw = torch.Generator().manual_seed(0)
    made = []
    for index in range(n):
        target = 1 + index % 4
        length = int(torch.randint(3, 15, (1,), generator=draw)) + target
        ids = tuple(torch.randint(2, 64, (length,), generator=draw).tolist())
        made.append(Encoded(f"{index:03d}", "t", index % 4, ids, target))
    return made


def window(size: int) -> list[dict[str, torch.Tensor]]:
    return [collate(part, 0, seq2seq=True) for part in micro_batches(rows(), size, by_length=True)]


def put(name: str, overrides: dict[str, Any] | None = None) -> Composed:
    model = tiny_model("t5", dtype=torch.float64)
    method = registry.create(name, overrides or {}).within(tiny_comparison())
    return method.install(model, tiny_experts(model), seed=0)


def test_prompts_and_targets_are_apart() -> None:
    part = collate([Encoded("a", "t", 2, (5, 6, 7, 8, 1), 2), Encoded("b", "t", 0, (9, 1), 1)], 0, seq2seq=True)
    assert part["input_ids"].tolist() == [[5, 6, 7], [9, 0, 0]]
    assert part["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert part["labels"].tolist() == [[8, 1], [1, -100]]
    assert part["domain"].tolist() == [2, 0]


def test_an_empty_prompt_still_has_a_column() -> None:
    part = collate([Encoded("a", "t", 0, (5, 1), 2)], 0, seq2seq=True)
    assert part["input_ids"].shape == part["attention_mask"].shape == (1, 1)
    assert part["attention_mask"].sum() == 0


def test_loss_is_the_model_s_own() -> None:
    """The library's loss on `labels`, which shifts them itself, is the mean that ours is."""
    model = tiny_model("t5", dtype=torch.float64)
    for part in window(3):
        logits, targets = target_logits(model, model, part)
        own = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"], labels=part["labels"]).loss
        assert len(targets) == target_count(model, part) == int((part["labels"] != -100).sum())
        assert target_cross_entropy(logits, targets).item() / len(targets) == pytest.approx(own.item(), abs=1e-10)


LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("mixer", {}),
    ("mixer", {"loss.stats_scope": "accum", "loss.mi.coef": 0.1, "loss.cv2.coef": 0.1, "loss.z.coef": 0.01}),
    ("mole", {}),
    ("gmoe", {}),
    ("ds-moe", {"loss.stats_scope": "accum"}),
    ("aesl", {"loss.calibrate": False}),
]


@pytest.mark.parametrize(("name", "overrides"), LOSSES, ids=str)
def test_gradients_do_not_depend_on_the_cut(name: str, overrides: dict[str, Any]) -> None:
    """Sides have unlike shares of tokens in unlike micro-batches; means over the window are exact all the same."""
    outcomes = []
    for size in (8, 3, 1):
        composed = put(name, overrides)
        composed.context.progress = 1.0
        composed.model.train()
        values = []
        for _ in range(2):  # the second window has running means behind it
            composed.model.zero_grad()
            values.append(window_backward(composed, composed.model, window(size), torch.Tensor.backward))
            composed.on_window_end()
        gradients = {key: p.grad for key, p in composed.groups()["routers"].items()}
        outcomes.append((values, gradients))
        assert composed.context.window is None
    (values, gradients), *others = outcomes
    assert len(values[1]) > 2
    for other_values, other_gradients in others:
        for one, two in zip(values, other_values, strict=True):
            assert one == pytest.approx(two, abs=1e-9)
        for key, gradient in gradients.items():
            assert (gradient - other_gradients[key]).abs().max() < 1e-9, key


def test_balance_is_over_each_side_s_own_tokens() -> None:
    """The mixer's terms against sums over tokens by hand, padding left out."""
    from methods.routing.sides import reads_encoder

    composed = put("mixer", {"loss.stats_scope": "microbatch"})
    assert isinstance(composed, RoutedComposed)
    (part,) = window(8)
    composed.context.training, composed.context.progress = True, 1.0
    target_logits(composed.model, composed.model, part)
    entropies, balances = [], []
    for router in composed.routers:
        assert router.record is not None
        mask = (part["attention_mask"] if reads_encoder(router.names[0]) else part["labels"] != -100).bool()
        p = router.record.logits[mask].softmax(-1)
        entropies.append(-(p * p.log()).sum(-1).mean(0))
        balances.append((p.mean(0) * router.record.w[mask].mean(0)).sum(-1))
    terms = composed.losses()
    assert terms["entropy"].value.item() == pytest.approx(torch.cat(entropies).mean().item(), abs=1e-12)
    assert terms["aux"].value.item() == pytest.approx(torch.cat(balances).mean().item(), abs=1e-12)


@pytest.mark.parametrize("name", ["mixer", "mixer-joint", "xlora", "mole"])
def test_only_named_groups_are_trained(name: str) -> None:
    """An optimiser step changes the trained group and nothing else by a bit."""
    composed = put(name)
    groups = composed.groups()
    trained = {id(p) for group in groups.values() for p in group.values()}
    before = {key: p.detach().clone() for key, p in composed.model.named_parameters()}
    rates = dict.fromkeys(groups, 1e-2)
    recipe = Recipe(rates, 1, 4, 2, 0.0, "constant", 0.0, 0)
    log = train(composed, rows(), list(groups), recipe, pad_id=0)
    assert log.tokens == sum(map(len, rows()))
    assert log.target_tokens == sum(row.n_target for row in rows())
    moved = {key for key, p in composed.model.named_parameters() if not torch.equal(p, before[key])}
    assert moved
    assert moved <= {key for key, p in composed.model.named_parameters() if id(p) in trained}
    unmoved = [key for key, p in composed.model.named_parameters() if id(p) in trained and key not in moved]
    assert not unmoved or name == "mixer-joint", unmoved


def test_training_learns_the_targets() -> None:
    """Targets of one token, which experts on q and v can learn to give."""
    same = [replace(row, ids=(*row.ids[: -row.n_target], *[7] * row.n_target)) for row in rows()]
    composed = put("mixer-joint", {"experts.preserve_beta": 0})
    recipe = Recipe({"routers": 1e-2, "experts": 3e-2}, 10, 8, 8, 0.0, "constant", 0.0, 0)
    log = train(composed, same, ["routers", "experts"], recipe, pad_id=0)
    assert log.steps[-1]["task"] < 0.8 * log.steps[0]["task"]
