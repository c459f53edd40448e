"""RegMean against the dense formula on inputs that are collected by hand, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance, registry
from methods.base import Expert, SiteFactors
from methods.conformance import logits
from methods.regmean import Regressed
from methods.tiny import TinySession, model_logits, tiny_experts, tiny_llama, tiny_model

NAMES = ("a", "b", "c")


def pool(architecture: str = "llama") -> tuple[Any, list[Expert]]:
    model = tiny_model(architecture, dtype=torch.float64)
    return model, tiny_experts(model, NAMES)


def fitted(experts: Sequence[Expert] | None = None, session: TinySession | None = None, **overrides: Any) -> Regressed:
    model, own = pool()
    method = registry.create("regmean", overrides)
    composed = method.install(model, own if experts is None else experts, seed=0)
    assert isinstance(composed, Regressed)
    method.fit(composed, session or TinySession())
    return composed


def inputs_by_hand(expert: Expert) -> dict[str, Tensor]:
    """Inputs `[tokens, d_in]` of every site on the expert's rows in the model with it, padding left out."""
    model = tiny_llama(dtype=torch.float64)
    found: dict[str, Tensor] = {}
    rows = TinySession()._batch(
        registry.create("uniform").install(model, pool()[1], seed=0), f"expert:{expert.name}", 0
    )
    model = registry.create("lora").install(tiny_llama(dtype=torch.float64), [expert], seed=0).model
    for site in expert.sites:

        def keep(_module: Any, args: tuple[Any, ...], site: str = site) -> None:
            found[site] = args[0][rows.attention_mask.bool()]

        model.get_submodule(site).register_forward_pre_hook(keep)
    with torch.no_grad():
        model_logits(model, rows.input_ids, rows.attention_mask)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_it_is_the_dense_formula(alpha: float, update: Callable[[SiteFactors], Tensor]) -> None:
    composed = fitted(alpha=alpha, ridge=0.0)
    _, experts = pool()
    inputs = [inputs_by_hand(expert) for expert in experts]
    for site in composed.sites:
        top, total = 0, 0
        for expert, own in zip(experts, inputs, strict=True):
            gram = own[site].T @ own[site] / len(own[site])
            gram = torch.where(torch.eye(len(gram)).bool(), gram, alpha * gram)
            top, total = top + update(expert.sites[site]) @ gram, total + gram
        expected = top @ torch.linalg.inv(total)  # type: ignore[operator, arg-type]
        assert torch.allclose(update(composed.update(site)), expected, atol=1e-8)  # type: ignore[arg-type]


def test_nothing_near_it_is_better(update: Callable[[SiteFactors], Tensor]) -> None:
    """With alpha 1 the gradient of what it minimises is zero."""
    composed = fitted(alpha=1.0, ridge=0.0)
    _, experts = pool()
    inputs = [inputs_by_hand(expert) for expert in experts]
    for site in composed.sites:
        delta = update(composed.update(site)).requires_grad_()  # type: ignore[arg-type]
        losses = [
            (own[site] @ (delta - update(expert.sites[site])).T).square().sum(1).mean()
            for expert, own in zip(experts, inputs, strict=True)
        ]
        torch.stack(losses).sum().backward()
        assert delta.grad is not None
        assert float(delta.grad.abs().max()) < 1e-8


def test_one_expert_alone_is_itself_and_copies_are_it() -> None:
    _, experts = pool()
    expected = logits(registry.create("lora").install(tiny_llama(dtype=torch.float64), experts[:1], seed=0))
    copies = [Expert(name, experts[0].sites) for name in NAMES]
    for own in (experts[:1], copies):
        assert torch.allclose(logits(fitted(own, ridge=0.0)), expected, atol=1e-9)


class SameRows(TinySession):
    """All experts see one and the same text."""

    def _batch(self, composed: Any, data: str, step: int) -> Any:
        return super()._batch(composed, "routing", step)


def test_of_equal_inputs_it_is_uniform(update: Callable[[SiteFactors], Tensor]) -> None:
    """At the first layer inputs do not depend on experts; there one text gives one Gram matrix."""
    composed, (_, experts) = fitted(session=SameRows(), ridge=0.0), pool()
    for site in ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"):
        mean = torch.stack([update(expert.sites[site]) for expert in experts]).mean(0)
        assert torch.allclose(update(composed.update(site)), mean, atol=1e-9)  # type: ignore[arg-type]
    apart = fitted(ridge=0.0)
    assert not torch.allclose(update(apart.update(site)), mean, atol=1e-3)  # type: ignore[arg-type]


def test_the_order_of_experts_does_not_matter() -> None:
    _, experts = pool()
    assert torch.allclose(logits(fitted(experts[::-1])), logits(fitted()), atol=1e-9)


def test_a_coordinate_that_is_never_active_is_no_division_by_zero() -> None:
    """One token is far fewer than coordinates; with alpha 1 the sum has no inverse."""
    composed = fitted(alpha=1.0, rows=1)
    assert bool(logits(composed).isfinite().all())


def test_each_expert_sees_its_own_rows() -> None:
    asked: list[tuple[str, int]] = []

    class Watching(TinySession):
        def loss(self, composed: Any, data: str, n: int) -> float:
            asked.append((data, n))
            return super().loss(composed, data, n)

    fitted(session=Watching(), rows=5)
    assert asked == [("expert:a", 5), ("expert:b", 5), ("expert:c", 5)]


def test_no_hook_is_left() -> None:
    composed = fitted()
    assert not [name for name, module in composed.model.named_modules() if module._forward_pre_hooks]


def test_beside_the_weights_it_conforms_too() -> None:
    conformance.check("regmean", {"fold": False, "alpha": 0.5})
