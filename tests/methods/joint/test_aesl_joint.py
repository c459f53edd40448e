"""AESL on experts that are trained: its orthogonality term reaches them, and turns their outputs apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance, registry
from methods.aesl import AeslLosses
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient

TERMS = {"loss.calibrate": False, "loss.aux.coef": 0.0, "loss.variance.coef": 0.0, "loss.ortho.coef": 1.0}


def of(installed: Any, shake: Any, **overrides: Any) -> Any:
    composed = installed("aesl-joint", {"loss.stats_scope": "microbatch", **overrides})
    shake(composed, "experts", std=0.3)
    shake(composed, "routers", std=0.5)
    return composed


def overlap(composed: Any) -> Tensor:
    """L_o by the definition, from formed outputs: mean over real tokens, kept pairs and sites."""
    batch, sites = tiny_batch(), []
    inputs: dict[str, Tensor] = {}
    handles = [
        site.register_forward_pre_hook(lambda _m, args, name=name: inputs.update({name: args[0]}))
        for name, site in composed.sites.items()
    ]
    composed.context.training = True
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    for handle in handles:
        handle.remove()
    mask = batch.attention_mask.bool()
    kept = {router.names[0]: router.record.w[..., 0, :][mask] > 0 for router in composed.routers}
    for name, site in composed.sites.items():
        x, trained = inputs[name][mask], site.trainable
        y = torch.stack([s * (x @ A.T @ B.T) for A, B, s in zip(trained.A, trained.B, trained.scales, strict=True)], 1)
        inner = y @ y.mT
        length = inner.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
        pairs = (kept[name].unsqueeze(-1) & kept[name].unsqueeze(-2)) & ~torch.eye(y.shape[1], dtype=torch.bool)
        value = (inner.square() * length / (length + 1e-8).square() * pairs).sum((-2, -1)) / pairs.sum((-2, -1))
        sites.append(value.mean())
    return torch.stack(sites)


def test_overlap_of_trained_experts_and_its_gradient_equal_formed_outputs(installed: Any, shake: Any) -> None:
    """Value, and gradients at every A and B; those of routers come through later layers' inputs alone."""
    composed = of(installed, shake, **TERMS)
    experts = list(composed.groups()["experts"].values())
    for parameter in experts:
        parameter.requires_grad_()
    expected = overlap(composed)
    term = composed.losses()["ortho"]
    assert term.value.item() == pytest.approx(expected.mean().item(), rel=1e-9)
    assert term.coefficient == len(composed.sites)
    ours = torch.autograd.grad(term.value, experts, retain_graph=True)
    theirs = torch.autograd.grad(expected.mean(), experts)
    assert max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True)) < 1e-10
    assert all(gradient.abs().max() > 0 for gradient in ours)


def test_the_term_turns_experts_apart(installed: Any, shake: Any) -> None:
    """Steps down L_o alone shrink the cosine of two experts' outputs, which shrinking the outputs would not."""

    @torch.no_grad()
    def cosine(composed: Any) -> float:
        site = composed.sites["model.layers.0.self_attn.q_proj"].trainable
        x = torch.randn(64, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        y = torch.stack([x @ A.T @ B.T for A, B in zip(site.A, site.B, strict=True)], 1)
        unit = torch.nn.functional.normalize(y, dim=-1)
        return float(((unit @ unit.mT).square().sum() - unit.shape[0] * 4) / (unit.shape[0] * 12))

    composed = of(installed, shake, **{**TERMS, "route.dense": True})
    experts = list(composed.groups()["experts"].values())
    optimizer, before, batch = torch.optim.Adam(experts, lr=1e-2), cosine(composed), tiny_batch()
    for parameter in experts:
        parameter.requires_grad_()
    for _ in range(40):
        composed.context.training = True
        composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        composed.losses()["ortho"].value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert cosine(composed) < 0.5 * before


def test_it_starts_as_the_plug_in_row_and_keeps_its_coefficient(installed: Any, resolved: Any) -> None:
    """Routers are those of `aesl`; B is zero in the first window, so L_o has no size and `ortho.coef` stays."""
    composed = installed("aesl-joint")
    model = tiny_llama(dtype=torch.float64)
    theirs = registry.create("aesl").install(model, tiny_experts(model), seed=0).groups()["routers"]
    ours = composed.groups()["routers"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    session = TinySession(steps=3)
    resolved("aesl-joint").fit(composed, session)
    assert session.trained == {"routers", "experts"}
    assert session.log[0]["ortho"] == 0
    assert session.log[-1]["ortho"] > 0
    assert isinstance(composed.loss, AeslLosses)
    aux, ortho, variance = composed.loss.state()["statistics.coefficients"].tolist()
    assert ortho == pytest.approx(1e-3)
    assert min(aux, variance) > 0


def test_evaluation_leaves_no_graph(installed: Any, shake: Any) -> None:
    composed = of(installed, shake)
    window_gradient(composed, [tiny_batch()])
    with composed.task("a", None), torch.no_grad():
        batch = tiny_batch()
        output = composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert not output.requires_grad


def test_variant_conforms() -> None:
    conformance.check("aesl-joint", {"loss.ortho_weighted": True, "n_experts": 5, "loss.stats_scope": "accum"})
