"""The own expert's mass in diagnostics: its softmax probability, or its part of weights that are no softmax's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.routing.composed import RoutedComposed
from methods.routing.context import RoutingContext
from methods.routing.diagnostics import Collector, Observation
from methods.tiny import tiny_batch, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d")


class Told:
    """A router that was seen doing something."""

    def __init__(self, logits: Tensor, w: Tensor, of_softmax: bool, name: str = "site") -> None:
        self.names = (name,)
        self.observed: Observation | None = None
        self.seen = Observation(logits[None, :, None], w[None, :, None], None, of_softmax=of_softmax)


def summary(*routers: Told) -> dict[str, Any]:
    collector = Collector(routers, RoutingContext())
    for router in routers:
        router.observed = router.seen
    report = collector.summary(["x", "y"], 0)
    assert report is not None
    return report


LOGITS = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([[0.3, 0.1], [0.0, 0.2], [0.0, 0.0]], dtype=torch.float64)


def test_it_is_a_share_of_what_a_token_keeps() -> None:
    """3/4 of the first token, nothing of the second; the third keeps nothing and has no share to count."""
    assert summary(Told(LOGITS, WEIGHTS, False))["own_expert_mass"] == pytest.approx((0.75 + 0) / 2)
    assert summary(Told(LOGITS, 10 * WEIGHTS, False))["own_expert_mass"] == pytest.approx((0.75 + 0) / 2)
    assert summary(Told(LOGITS, WEIGHTS, True))["own_expert_mass"] == pytest.approx(0.5)


def test_where_nothing_is_kept_there_is_none() -> None:
    """Of a module alone, and of all; a softmax has a share of every token."""
    mute = torch.zeros_like(WEIGHTS)
    both = summary(Told(LOGITS, WEIGHTS, False, "one"), Told(LOGITS, mute, False, "two"))
    assert both["per_module"]["own_expert_mass"] == [pytest.approx(0.375), None]
    assert both["own_expert_mass"] == pytest.approx(0.375)
    assert summary(Told(LOGITS, mute, False))["own_expert_mass"] is None
    assert summary(Told(LOGITS, mute, True))["own_expert_mass"] == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "of_softmax"), [("mixer", True), ("adamole", False), ("dynmole", False)])
def test_methods_report_what_they_apply(name: str, of_softmax: bool) -> None:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create(name, {"router.init_std": 0.5}).install(model, tiny_experts(model, NAMES), seed=0)
    assert isinstance(composed, RoutedComposed)
    batch = tiny_batch()
    with composed.task("x", "b"), torch.no_grad():
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    report = composed.diagnostics()
    assert report is not None
    composed.context.training = True
    with torch.no_grad():
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    mask = batch.attention_mask.bool()
    w = torch.cat([r.record.w[mask] for r in composed.routers if r.record is not None], 1)
    p = torch.cat([r.record.logits[mask].softmax(-1) for r in composed.routers if r.record is not None], 1)
    own = (p if of_softmax else w / w.sum(-1, keepdim=True))[..., 1].mean().item()
    assert report["own_expert_mass"] == pytest.approx(own, abs=1e-9)
