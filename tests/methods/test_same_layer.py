"""Methods that differ in their routing loss differ in nothing else: Table 8 as a controlled experiment."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.routing.composed import RoutedComposed
from methods.routing.linear import RoutedLinear
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama

FAMILY = ("mixer", "mixer-aux", "mixer-none", "gmoe", "ds-moe", "aesl")
OTHERS = FAMILY[1:]
TERMS = {
    "mixer": {"aux", "entropy"},
    "mixer-aux": {"aux"},
    "mixer-none": set(),
    "gmoe": {"poisson", "normal"},
    "ds-moe": {"mi"},
    "aesl": {"aux", "ortho", "variance"},
}


def compose(name: str, overrides: dict[str, Any] | None = None, seed: int = 0) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create(name, overrides).install(model, tiny_experts(model), seed=seed)
    assert isinstance(composed, RoutedComposed)
    return composed


def training_logits(composed: RoutedComposed) -> Tensor:
    batch = tiny_batch()
    context = composed.context
    context.training, context.label_mask = True, batch.labels != -100
    out: Tensor = composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.detach()
    return out


@pytest.mark.parametrize("name", OTHERS)
def test_same_sites_experts_and_routers(name: str) -> None:
    """Sites, frozen factors, router parameters and their initial values are the mixer's to the bit."""
    one, two = compose("mixer"), compose(name)
    assert list(one.sites) == list(two.sites)
    assert one.experts == two.experts
    assert one.stored() == two.stored()
    for path, site in one.sites.items():
        other = two.sites[path]
        assert isinstance(site, RoutedLinear)
        assert isinstance(other, RoutedLinear)
        for ours, theirs in zip(site.factors, other.factors, strict=True):
            assert ours is not None
            assert theirs is not None
            assert torch.equal(ours.A, theirs.A)
            assert torch.equal(ours.B, theirs.B)
            assert ours.scale == theirs.scale
    routers, others = one.groups()["routers"], two.groups()["routers"]
    assert list(routers) == list(others)
    assert all(torch.equal(parameter, others[key]) for key, parameter in routers.items())
    assert [router.names for router in one.routers] == [router.names for router in two.routers]


@pytest.mark.parametrize("name", OTHERS)
def test_same_logits_at_the_start(name: str, logits: Any) -> None:
    """In training and at inference, to the bit, where the same experts are kept: ds-moe keeps all in training and does
    not renormalise, by definition, and equals the mixer so configured."""
    overrides = {"route.dense_train": True, "route.renorm": "none"} if name == "ds-moe" else {}
    one, two = compose("mixer", overrides), compose(name)
    assert torch.equal(logits(one.model), logits(two.model))
    assert torch.equal(training_logits(one), training_logits(two))
    if name == "ds-moe":
        assert not torch.equal(logits(two.model), logits(compose("mixer").model))


@pytest.mark.parametrize("name", FAMILY)
def test_only_the_loss_differs(name: str) -> None:
    """Each has its own terms, the same configuration of routers, and the same phase but for the loss's own rate."""
    composed = compose(name)
    training_logits(composed)
    assert composed.losses().keys() == TERMS[name]
    config: Any = registry.create(name).config
    mixer: Any = registry.create("mixer").config
    assert config.router == mixer.router
    if name != "ds-moe":
        assert config.route == mixer.route
    assert set(composed.groups()) == ({"routers", "loss"} if name == "gmoe" else {"routers"})
    method: Any = registry.create(name, {"router.lr": 0.3, "router.weight_decay": 0.1})
    reference: Any = registry.create("mixer", {"router.lr": 0.3, "router.weight_decay": 0.1})
    assert method.phase() == reference.phase()
    assert method.budgets() == reference.budgets()


@pytest.mark.parametrize("name", ["gmoe", "aesl"])
def test_without_their_losses_they_train_to_the_same_routers(name: str) -> None:
    """With all coefficients 0 a fit is that of the mixer without losses, to the bit: nothing else is hidden in them."""
    terms = TERMS[name]
    silent = {f"loss.{term}.coef": 0.0 for term in terms}
    fitted = []
    for own, overrides in (("mixer-none", {}), (name, silent), (name, {})):
        composed = compose(own, overrides)
        registry.create(own, overrides).fit(composed, TinySession(steps=3))
        fitted.append({key: p.detach().clone() for key, p in composed.groups()["routers"].items()})
    assert all(torch.equal(fitted[0][key], fitted[1][key]) for key in fitted[0])
    assert not all(torch.equal(fitted[0][key], fitted[2][key]) for key in fitted[0])


def test_another_start_is_noticed() -> None:
    """The control: another seed moves every router."""
    one, two = (compose("mixer", seed=seed).groups()["routers"] for seed in (0, 1))
    assert not any(torch.equal(parameter, two[key]) for key, parameter in one.items())


@pytest.mark.parametrize("name", ["gmoe", "ds-moe", "aesl"])
def test_cards_say_that_it_is_a_loss(name: str) -> None:
    """A row of these is not the method that the name belongs to, and the summary that tables show says so."""
    card = registry.card(name)
    assert (
        f"of {name.replace('ds-moe', 'DS-MoE').replace('gmoe', 'GMoE').replace('aesl', 'AESL')}, not " in card.summary
    )
    assert "not " in card.body().split("\n")[2]
