"""LoRA-Mixer's second stage with trained experts: the preserve term, and what is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods import conformance, registry
from methods.base import Unsupported
from methods.mixer_joint import MixerJoint
from methods.routing.composed import RoutedComposed
from methods.tiny import TinySession, tiny_batch, tiny_comparison, tiny_experts, tiny_llama, window_gradient

NAMES = ("a", "b", "c", "d")


def compose(**overrides: Any) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    method = registry.create("mixer-joint", keys).within(tiny_comparison())
    composed = method.install(model, tiny_experts(model), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def factors(composed: RoutedComposed) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in composed.groups()["experts"].items()}


def preserve_gradient(composed: RoutedComposed) -> dict[str, torch.Tensor]:
    """Gradient of the scaled preserve term alone."""
    batch = tiny_batch()
    composed.context.training = True
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    term = composed.losses()["preserve"]
    assert not term.per_token
    group = composed.groups()["experts"]
    for parameter in group.values():
        parameter.requires_grad_(True)
    composed.context.training = False
    gradients = torch.autograd.grad(
        term.coefficient * term.value, list(group.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(group, gradients, strict=True))


def test_variant_conforms() -> None:
    conformance.check(
        "mixer-joint", {"experts.preserve_beta": 0, "router.scope": "per_layer", "route.dense_train": True}
    )


def test_untrained_it_is_the_mixer(logits: Any) -> None:
    """Stage 2 starts from the pool's experts and the mixer's routers."""
    model = tiny_llama(dtype=torch.float64)
    pool = tiny_experts(model)
    plug = registry.create("mixer").install(model, pool, seed=0)
    expected = logits(model)
    plug.uninstall()
    joint = registry.create("mixer-joint").install(model, pool, seed=0)
    assert (logits(model) - expected).abs().max() < 1e-12
    assert MixerJoint().depends_on(NAMES, "a") == NAMES
    joint.uninstall()


@pytest.mark.parametrize("beta", [5e-5, 0.05])
def test_preserve_term(beta: float) -> None:
    """Zero with zero gradient at the start; then the sum of squares with gradient 2 beta (theta - theta0)."""
    composed = compose(experts__preserve_beta=beta)
    start = factors(composed)
    assert all(not gradient.any() for gradient in preserve_gradient(composed).values())
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in composed.groups()["experts"].values():
            parameter.add_(torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
    shifts = {name: now - start[name] for name, now in factors(composed).items()}
    for name, gradient in preserve_gradient(composed).items():
        assert (gradient - 2 * beta * shifts[name]).abs().max() < 1e-12
    batch = tiny_batch()
    composed.context.training = True
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    value = composed.losses()["preserve"].value.detach()
    assert float(value) == pytest.approx(sum(float(shift.square().sum()) for shift in shifts.values()))


def test_preserve_set_holds_only_those_named() -> None:
    composed = compose(experts__preserve_beta=0.5, experts__preserve_set=["b", "d"])
    with torch.no_grad():
        for parameter in composed.groups()["experts"].values():
            parameter.add_(1.0)
    for name, gradient in preserve_gradient(composed).items():
        held = name.startswith(("experts.b.", "experts.d."))
        assert bool((gradient == (1.0 if held else 0.0)).all()), name


def test_no_term_without_a_coefficient() -> None:
    composed = compose(experts__preserve_beta=0)
    batch = tiny_batch()
    composed.context.training = True
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    assert composed.losses().keys() == {"aux", "entropy"}


def test_the_term_holds_experts_in_place() -> None:
    """Trained with a large beta the experts end nearer to where they began than with none."""
    distances = []
    for beta in (0.0, 10.0):
        composed = compose(experts__preserve_beta=beta)
        start = factors(composed)
        registry.create("mixer-joint").fit(composed, TinySession(steps=6))
        distances.append(sum(float((p - start[n]).square().sum()) for n, p in factors(composed).items()))
    assert distances[1] < 0.5 * distances[0]


def test_cutting_a_window_changes_no_gradient() -> None:
    """One micro-batch of eight and four of two give the same gradient, preserve term included."""
    gradients = []
    for size in (8, 2):
        composed = compose(experts__preserve_beta=0.05)
        for group in composed.groups().values():
            for parameter in group.values():
                parameter.requires_grad_(True)
        with torch.no_grad():
            for parameter in composed.groups()["experts"].values():
                parameter.mul_(1.1)
        composed.context.progress = 1.0
        batch = tiny_batch()
        window_gradient(composed, [batch[start : start + size] for start in range(0, 8, size)])
        gradients.append({name: p.grad for group in composed.groups().values() for name, p in group.items()})
    for name, gradient in gradients[0].items():
        assert gradient is not None
        assert gradients[1][name] is not None
        assert (gradient - gradients[1][name]).abs().max() < 1e-12, name


def test_rates_of_the_two_groups() -> None:
    """Experts take their own rate; open ones are the comparison's for that group."""
    assert MixerJoint().phase().lr == {}
    assert MixerJoint().phase().groups == ("routers", "experts")
    method = registry.create("mixer-joint", {"experts.lr": 1e-4, "router.lr": 1e-2})
    assert isinstance(method, MixerJoint)
    assert method.phase().lr == {"routers": 1e-2, "experts": 1e-4}
    assert method.budgets() == ("router",)


def test_dropout_is_the_comparisons_unless_given() -> None:
    comparison = tiny_comparison(dropout=0.25)
    assert registry.create("mixer-joint").within(comparison).config.experts.dropout == 0.25  # type: ignore[attr-defined]
    given = registry.create("mixer-joint", {"experts.dropout": 0.0}).within(comparison)
    assert given.config.experts.dropout == 0.0  # type: ignore[attr-defined]


def test_an_unknown_preserved_expert_is_refused() -> None:
    method = registry.create("mixer-joint", {"experts.preserve_set": ["x"]})
    with pytest.raises(Unsupported, match="'x' is not in the pool: name some of a, b, c, d"):
        method.check(tiny_llama().config, NAMES)
