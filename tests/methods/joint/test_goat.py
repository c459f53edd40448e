"""GOAT: experts from segments of the base's spectrum, a theoretical scale, and what is taken off for their start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods import conformance, registry
from methods.agreements import agreed
from methods.base import Unsupported
from methods.goat import AnchoredFactors, segments
from methods.loads import PickBalance
from methods.routing.router import Record
from methods.routing.statistics import RoutingBatch
from methods.tiny import tiny_comparison, tiny_llama, tiny_model

N, R = 4, 4
PATH = "model.layers.0.self_attn.v_proj"


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def factors_of(composed: Any, path: str = PATH) -> AnchoredFactors:
    found = composed.sites[path].trainable
    assert isinstance(found, AnchoredFactors)
    return found


@pytest.mark.parametrize("training", [False, True])
def test_untrained_it_is_the_base_to_the_bit(installed: Any, shake: Any, logits: Any, training: bool) -> None:
    """Whatever routers say, also under dropout: the initial update is taken off by factors that are exactly zero."""
    model = tiny_llama()
    base = logits(model)
    composed = installed("goat", {"residual": "own", "lora.dropout": 0.5}, model=model)
    shake(composed, "routers", std=1.0)
    model.train(training)
    assert torch.equal(logits(model), base)
    assert all(A.abs().max() > 0 for A in factors_of(composed).A)


@pytest.mark.parametrize("even", [True, False])
def test_as_published_it_is_the_base_for_routers_without_a_preference(
    installed: Any, shake: Any, logits: Any, even: bool
) -> None:
    """The mean of all starts is taken off: equal weights give the base to rounding; others (the control) do not."""
    model = tiny_llama(dtype=torch.float64)
    base = logits(model)
    composed = installed("goat", {"residual": "mean", "route.dense": True, "router.init_std": 0.0}, model=model)
    if not even:
        shake(composed, "routers", std=1.0)
    gap = (logits(model) - base).abs().max()
    assert gap < 1e-12 if even else gap > 1e-3


def test_segments_are_of_the_spectrum_and_share_nothing() -> None:
    """Five values each, of which every expert has the first three: values 0-2, 5-7, 10-12, 15-17 of 20."""
    W = draw(20, 24)
    found = segments(W, N, 3)
    values = torch.linalg.svdvals(W)
    for n, (U, S, V) in enumerate(found):
        assert (S - values[5 * n : 5 * n + 3]).abs().max() < 1e-12
        assert ((W @ V.T) - U * S).abs().max() < 1e-12
    V = torch.cat([V for _, _, V in found])
    assert (V @ V.T - torch.eye(12)).abs().max() < 1e-12


def test_an_expert_starts_as_a_tenth_of_its_segment(installed: Any) -> None:
    """s B0 A0 = U S V^T / rho, whatever the scale, and both factors carry the same singular values."""
    for overrides in ({}, {"scaling": "alpha"}, {"rho": 3.0, "eta": 0.5}):
        model = tiny_llama(dtype=torch.float64)
        factors = factors_of(installed("goat", overrides, model=model))
        weight = model.get_submodule(PATH).weight
        for n, (U, S, V) in enumerate(segments(weight, N, R)):
            update = factors.scales[n] * factors.B[n] @ factors.A[n]
            assert (update - U @ (S / overrides.get("rho", 10.0)).diag() @ V).abs().max() < 1e-12
            assert (factors.A[n].norm(dim=1) - factors.B[n].norm(dim=0)).abs().max() < 1e-12


def test_scale(installed: Any) -> None:
    assert factors_of(installed("goat")).scales[0] == pytest.approx((3 * 32 / R) ** 0.5)
    assert factors_of(installed("goat", {"eta": 2.0})).scales[0] == pytest.approx((6 * 32 / R) ** 0.5)
    assert factors_of(installed("goat", {"scaling": "alpha"})).scales[0] == 2.0


@pytest.mark.parametrize("residual", ["own", "mean"])
def test_equals_a_loop_over_experts(installed: Any, shake: Any, topk: Any, residual: str) -> None:
    """W x + sum_n w_n s B_n A_n x, less each start under its weight, or less all starts under 1/N."""
    composed = installed("goat", {"residual": residual})
    shake(composed, "routers", "experts")
    site, factors, x = composed.sites[PATH], factors_of(composed), draw(2, 3, 32)
    w = topk((x @ composed.groups()["routers"][f"routers.{PATH}.weight"].T).softmax(-1).detach(), 2)
    expected = site.base(x)
    for n in range(N):
        weight, scale = w[..., n : n + 1], factors.scales[n]
        start = scale * (x @ factors.start_A[n].T @ factors.start_B[n].T)
        expected = expected + weight * scale * (x @ factors.A[n].T @ factors.B[n].T)
        expected = expected - (weight * start if residual == "own" else start / N)
    assert (site(x) - expected).abs().max() < 1e-12


def test_gradients_are_those_of_the_factors(installed: Any, shake: Any) -> None:
    """Taking the start off through differences of factors changes no gradient of B and A."""
    own, mean = (installed("goat", {"residual": residual, "route.dense": True}) for residual in ("own", "mean"))
    x, towards = draw(2, 3, 32), draw(2, 3, 16)
    found = []
    for composed in (own, mean):
        shake(composed, "routers", "experts")
        parameters = [*factors_of(composed).A, *factors_of(composed).B]
        for parameter in parameters:
            parameter.requires_grad_()
        found.append(torch.autograd.grad((composed.sites[PATH](x) * towards).sum(), parameters))
    assert max((a - b).abs().max().item() for a, b in zip(*found, strict=True)) < 1e-12


def test_is_the_authors_layer(installed: Any, shake: Any) -> None:
    """`TopKGOATLayer` over a base from which `init_cof` of all starts was subtracted, and its loss; with gradients."""
    bound = agreed("goat", "Facico/GOAT-PEFT", "residual=mean,scaling=alpha")
    composed = installed("goat", {"residual": "mean", "scaling": "alpha"})
    shake(composed, "routers", "experts")
    site, factors, x = composed.sites[PATH], factors_of(composed), draw(2, 7, 32)
    gate = composed.groups()["routers"][f"routers.{PATH}.weight"]
    parameters = [gate, *factors.A, *factors.B]
    for parameter in parameters:
        parameter.requires_grad_()

    starts = sum(factors.scales[n] * factors.start_B[n] @ factors.start_A[n] for n in range(N))
    flat = x.flatten(0, 1)
    probabilities = F.softmax(flat @ gate.T, dim=-1)
    weights, chosen = torch.topk(probabilities, 2, dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    theirs = flat @ (site.base.weight - starts / N).T
    for n in range(N):
        rows, place = torch.where(chosen == n)
        out = factors.scales[n] * flat[rows] @ factors.A[n].T @ factors.B[n].T
        theirs = theirs.index_add(0, rows, weights[rows, place, None] * out)
    fractions = torch.bincount(chosen.flatten(), minlength=N) / flat.new_tensor(len(flat))
    their_loss = N * (fractions * (probabilities.sum(0) / len(flat))).sum()

    ours = site(x).flatten(0, 1)
    method = registry.create("goat", {"loss.stats_scope": "microbatch"})
    scores = x @ gate.T
    record = Record(scores.unsqueeze(2), method.config.route.sparsifier()(scores, True).unsqueeze(2))  # type: ignore[attr-defined]
    balance = PickBalance(1, N, method.config.loss, x, 2)  # type: ignore[attr-defined]
    our_loss = balance(RoutingBatch([record], None), 1.0)["aux"].value

    towards = draw(*ours.shape, seed=2)
    pairs = [torch.autograd.grad((y * towards).sum(), parameters, retain_graph=True) for y in (ours, theirs)]
    pairs = [(*p, torch.autograd.grad(one, gate)[0]) for p, one in zip(pairs, (our_loss, their_loss), strict=True)]
    assert bound.output is not None
    assert bound.loss is not None
    assert bound.gradient is not None
    assert (ours - theirs).abs().max() < bound.output
    assert (our_loss - their_loss).abs() < bound.loss
    assert max((a - b).abs().max().item() for a, b in zip(*pairs, strict=True)) < bound.gradient


def test_an_expert_is_what_it_adds(installed: Any, shake: Any) -> None:
    """Nothing at the start, of twice the rank where its own start is taken off."""
    composed = installed("goat", {"residual": "own"})
    before = composed.expert("expert-2").sites[PATH]
    assert before.A.shape == (2 * R, 32)
    assert not (before.B @ before.A).any()
    shake(composed, "experts")
    after, factors = composed.expert("expert-2").sites[PATH], factors_of(composed)
    update = factors.B[1] @ factors.A[1] - factors.start_B[1] @ factors.start_A[1]
    assert (after.scale * after.B @ after.A - factors.scales[1] * update).abs().max() < 1e-12


def test_the_start_is_saved_with_what_came_of_it(installed: Any, shake: Any, logits: Any) -> None:
    """Another machine's singular vectors may have other signs: what is loaded counts, not what was computed there."""
    model, other = (tiny_llama(dtype=torch.float64) for _ in range(2))
    composed, again = installed("goat", model=model), installed("goat", model=other)
    shake(composed, "routers", "experts")
    for site in again.sites.values():
        site.trainable.start_A.neg_()
        site.trainable.start_B.neg_()
    again.load_state(composed.state())
    assert torch.equal(logits(other), logits(model))
    state = composed.state()
    del state[f"start.{PATH}.A"]
    with pytest.raises(KeyError, match="start"):
        again.load_state(state)


def test_parameters(installed: Any) -> None:
    """N r (d_in + d_out) trained, and as many kept as they were."""
    composed = installed("goat", {"residual": "own"})
    size = sum(N * R * (d_in + d_out) for d_in, d_out in [(32, 32), (32, 16), (32, 16), (32, 32)] * 2)
    assert sum(p.numel() for p in composed.groups()["experts"].values()) == size
    assert composed.stored() == {"experts": size}


def test_narrow_layers_hold_what_their_segments_do() -> None:
    """Six singular values for four experts are one each; for eight experts there are too few."""
    method = registry.create("goat").within(tiny_comparison(("a", "b", "c", "d"), targets=("dt_proj",)))
    composed: Any = method.install(tiny_model("mamba"), [], seed=0)
    found = next(iter(composed.sites.values())).trainable
    assert [A.shape for A in found.A] == [(1, 6)] * 4
    assert found.scales[0] == pytest.approx((3 * 6 / 1) ** 0.5)
    with pytest.raises(Unsupported, match="6 singular values for 8 experts"):
        registry.create("goat", {"n_experts": 8}).within(tiny_comparison(targets=("dt_proj",))).install(
            tiny_model("mamba"), [], seed=0
        )


def test_variant_conforms() -> None:
    conformance.check("goat", {"residual": "mean", "lora.dropout": 0.1, "router.scope": "shared_qkv"})
