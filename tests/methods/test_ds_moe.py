"""DS-MoE's routing loss: its value on a composed model, dense training, sparse inference without renormalisation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Unsupported
from methods.routing.composed import RoutedComposed
from methods.routing.sparsify import Sparsifier
from methods.tiny import tiny_batch, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d", "e", "f")


def compose(overrides: dict[str, Any] | None = None) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    method = registry.create("ds-moe", {"router.init_std": 0.5, **(overrides or {})})
    composed = method.install(model, tiny_experts(model, NAMES), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def training_pass(composed: RoutedComposed) -> Tensor:
    batch = tiny_batch()
    composed.context.training = True
    out: Tensor = composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    composed.context.training = False
    return out.detach()


def test_loss_is_mutual_information() -> None:
    """L_MI = -E[KL(p || pbar)] over real tokens, added up over eight routers; its coefficient is not ramped."""
    composed = compose({"loss.stats_scope": "microbatch"})
    training_pass(composed)
    mask = tiny_batch().attention_mask.bool()
    divergences = []
    for router in composed.routers:
        assert router.record is not None
        p = router.record.logits.softmax(-1)[mask]
        divergences.append((p * (p / p.mean(0)).log()).sum(-1).mean(0))
    terms = composed.losses()
    assert terms.keys() == {"mi"}
    assert terms["mi"].coefficient == 8 * 2e-4
    assert terms["mi"].value.item() == pytest.approx(-torch.cat(divergences).mean().item(), abs=1e-12)
    assert -math.log(6) < terms["mi"].value.item() < -1e-3


def test_routing_that_ignores_the_token_has_no_information() -> None:
    """Constant p, uniform or not, gives 0."""
    for bias in (0.0, 1.0):
        composed = compose({"loss.stats_scope": "microbatch", "router.bias": True})
        with torch.no_grad():
            for parameter in composed.groups()["routers"].values():
                parameter.copy_(0 * parameter if parameter.dim() == 2 else bias * torch.arange(6.0))
        training_pass(composed)
        assert composed.losses()["mi"].value.item() == pytest.approx(0, abs=1e-12)


def test_dense_inference_is_the_training_forward(logits: Any) -> None:
    """With all N kept, inference computes what training did; with fewer the update shrinks (control)."""
    dense = compose({"route.dense": True})
    assert torch.equal(training_pass(dense), logits(dense.model))
    sparse = compose()
    assert torch.equal(training_pass(sparse), training_pass(dense))
    assert (logits(sparse.model) - logits(dense.model)).abs().max() > 1e-3


def test_kept_weights_are_not_renormalised() -> None:
    logits = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)
    method: Any = registry.create("ds-moe")
    kept = method.config.route.sparsifier()(logits, False)
    assert ((kept > 0).sum(-1) == 3).all()
    assert torch.equal(kept[kept > 0], p[kept > 0])
    assert (kept.sum(-1) < 1).all()
    assert torch.equal(method.config.route.sparsifier()(logits, True), p)


def test_threshold_keeps_what_stands_out() -> None:
    """All experts with N p above the threshold, the largest always, in inference only."""
    logits = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)
    for renorm in ("none", "sum"):
        kept = Sparsifier(None, 3, renorm, threshold=0.48)(logits, False)  # type: ignore[arg-type]
        assert torch.equal(kept > 0, 6 * p > 0.48)
        expected = p * (6 * p > 0.48)
        if renorm == "sum":
            expected = expected / expected.sum(-1, keepdim=True)
        assert (kept - expected).abs().max() < 1e-15
    assert len(set((kept > 0).sum(-1).tolist())) > 2
    assert (Sparsifier(None, 3, threshold=0.999)(torch.zeros(1, 6), False) > 0).all()
    assert torch.equal(Sparsifier(None, 3, threshold=0.48)(logits, True), p)


def test_small_pools_are_refused_unless_the_threshold_decides() -> None:
    config = tiny_llama().config
    with pytest.raises(Unsupported, match=r"set route.eval_k below 3"):
        registry.create("ds-moe").check(config, NAMES[:3])
    registry.create("ds-moe", {"route.threshold": 0.48}).check(config, NAMES[:3])
    with pytest.raises(Unsupported, match=r"set route.train_k below 3"):
        registry.create("ds-moe", {"route.threshold": 0.48, "route.dense_train": False}).check(config, NAMES[:3])
    with pytest.raises(ValueError, match="less than 1"):
        registry.create("ds-moe", {"route.threshold": 1.0})
