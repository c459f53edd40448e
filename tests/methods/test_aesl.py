"""AESL's routing losses: the overlap of outputs without forming them, the spread of weights, and calibration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.aesl import AeslLossConfig, AeslLosses, Overlaps
from methods.base import SiteFactors
from methods.routing.composed import RoutedComposed
from methods.routing.context import RoutingContext
from methods.routing.linear import RoutedLinear
from methods.routing.router import Record
from methods.routing.sparsify import DENSE, Sparsifier
from methods.routing.statistics import RoutingBatch
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient

N, D, R = 5, 12, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def factors(seed: int, rank: int = R) -> SiteFactors:
    return SiteFactors(draw(rank, D, seed=seed), draw(D, rank, seed=seed + 100), 0.5 + 0.1 * seed)


def overlaps_of(pool: list[SiteFactors | None], *, weighted: bool = False) -> Overlaps:
    base = torch.nn.Linear(D, D, bias=False, dtype=torch.float64)
    site = RoutedLinear("site", base, pool)
    return Overlaps([site], None, RoutingContext(), weighted)  # type: ignore[arg-type]


def shrunk(pool: list[SiteFactors | None], x: Tensor) -> Tensor:
    """`[b, t, 1, N, r]`."""
    rank = max(f.A.shape[0] for f in pool if f is not None)
    h = x.new_zeros(*x.shape[:-1], 1, len(pool), rank)
    for n, factor in enumerate(pool):
        if factor is not None:
            h[..., 0, n, : factor.A.shape[0]] = x @ factor.A.T
    return h


def outputs(pool: list[SiteFactors | None], x: Tensor) -> Tensor:
    """Each expert's update, `[b, t, N, d_out]`."""
    zero = torch.zeros_like(x)
    return torch.stack([zero if f is None else f.scale * (x @ f.A.T) @ f.B.T for f in pool], -2)


def ortho_by_loops(out: Tensor, w: Tensor) -> Tensor:
    """L_o of each token `[b, t]`, pair by pair."""
    result = torch.zeros(out.shape[:2], dtype=out.dtype)
    for index in torch.cartesian_prod(torch.arange(out.shape[0]), torch.arange(out.shape[1])).tolist():
        vectors, kept = out[tuple(index)], w[tuple(index)].nonzero().flatten().tolist()
        pairs = [(j, m) for j in kept for m in kept if j != m]
        for j, m in pairs:
            projection = (vectors[j] @ vectors[m]) / (vectors[m] @ vectors[m] + 1e-8) * vectors[m]
            result[tuple(index)] += (projection @ projection) / len(pairs)
    return result


@pytest.mark.parametrize("weighted", [False, True])
def test_overlaps_equal_formed_outputs(weighted: bool) -> None:
    """Pairs of selected experts alone, ranks of several sizes, an expert that lacks the site."""
    pool = [factors(0), factors(1, 2), None, factors(3), factors(4, 1)]
    x = draw(2, 4, D)
    w = Sparsifier(3, 3)(draw(2, 4, N, seed=1), True)
    found = overlaps_of(pool, weighted=weighted).of(shrunk(pool, x), w.unsqueeze(-2))
    out = outputs(pool, x) * (w.unsqueeze(-1) if weighted else 1)
    assert (found[..., 0] - ortho_by_loops(out, w)).abs().max() < 1e-10


def test_orthogonal_outputs_do_not_overlap() -> None:
    """L_o = 0 for experts that write into different dimensions; not for others (control)."""
    pool: list[SiteFactors | None] = []
    for n in range(4):
        B = torch.zeros(D, R, dtype=torch.float64)
        B[n * R : (n + 1) * R] = draw(R, R, seed=n)
        pool.append(SiteFactors(draw(R, D, seed=n), B, 1.0))
    x, w = draw(2, 4, D), torch.full((2, 4, 1, 4), 0.25, dtype=torch.float64)
    assert overlaps_of(pool).of(shrunk(pool, x), w).abs().max() < 1e-20
    pool[0] = factors(0)
    assert overlaps_of(pool).of(shrunk(pool, x), w).min() > 1e-6


def test_overlap_scales_with_the_square_and_ignores_order() -> None:
    """Outputs times c give c^2 L_o; permuting the experts gives the same."""
    pool: list[SiteFactors | None] = [factors(n) for n in range(N)]
    x, w = draw(2, 4, D), Sparsifier(3, 3)(draw(2, 4, 1, N, seed=1), True)
    plain = overlaps_of(pool).of(shrunk(pool, x), w)
    louder: list[SiteFactors | None] = [SiteFactors(f.A, f.B, 3 * f.scale) for f in pool if f is not None]
    assert (overlaps_of(louder).of(shrunk(louder, x), w) / plain - 9).abs().max() < 1e-6
    order = [3, 0, 4, 1, 2]
    moved = [pool[n] for n in order]
    assert (overlaps_of(moved).of(shrunk(moved, x), w[..., order]) - plain).abs().max() < 1e-12


def loss_of(settings: dict[str, Any] | None = None) -> AeslLosses:
    config = AeslLossConfig.model_validate({"stats_scope": "microbatch", "calibrate": False, **(settings or {})})
    return AeslLosses(1, N, config, torch.zeros((), dtype=torch.float64), [])


def batch_of(logits: Tensor, sparsifier: Sparsifier = DENSE) -> RoutingBatch:
    logits = logits.unsqueeze(-2)
    return RoutingBatch([Record(logits, sparsifier(logits, True))], None)


def test_variance_of_weights() -> None:
    """0 if all tokens share their weights, at least -(1 - 1/N), reached by balanced one-hot weights."""
    loss = loss_of()
    logits = draw(3, 7, N)
    assert loss.variance(batch_of(logits[:1, :1].expand(3, 7, N))).abs() < 1e-12
    for seed in range(10):
        batch = batch_of(9 * draw(3, 7, N, seed=seed), Sparsifier(2, 2))
        value = loss.variance(batch)
        s = batch.records[0].w.reshape(-1, N)
        assert value.item() == pytest.approx(-s.var(0, correction=0).sum().item(), abs=1e-12)
        assert -(1 - 1 / N) < value < 0
    turns = 200 * torch.eye(N, dtype=torch.float64).unsqueeze(0)
    assert loss.variance(batch_of(turns)).item() == pytest.approx(-(1 - 1 / N), abs=1e-12)


def test_balance_is_switch_s() -> None:
    """N sum pbar f with f the share of picks, held constant; 1 at balance."""
    logits = draw(3, 7, N).requires_grad_()
    batch = batch_of(logits, Sparsifier(2, 2))
    value = loss_of().aux(batch)
    p = logits.softmax(-1).reshape(-1, N)
    picks = (batch.records[0].w.reshape(-1, N) > 0).double().mean(0) / 2
    plain = N * (p.mean(0) * picks).sum()
    assert value.item() == pytest.approx(plain.item(), abs=1e-12)
    gradients = [torch.autograd.grad(v, logits, retain_graph=True)[0] for v in (value, plain)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-12
    turns = 200 * torch.eye(N, dtype=torch.float64).unsqueeze(0)
    assert loss_of().aux(batch_of(turns, Sparsifier(1, 1))).item() == pytest.approx(1)


def compose(overrides: dict[str, Any] | None = None) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    method = registry.create("aesl", {"router.init_std": 0.5, **(overrides or {})})
    composed = method.install(model, tiny_experts(model), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def training_pass(composed: RoutedComposed) -> dict[str, Any]:
    batch = tiny_batch()
    composed.context.training = True
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    return composed.losses()


@pytest.mark.parametrize("weighted", [False, True])
def test_frozen_experts_leave_routers_without_an_orthogonality_gradient(weighted: bool) -> None:
    """No router of a site has a gradient from its own site's L_o, unless outputs are weighted; earlier layers'
    routers have one through the hidden states."""
    composed = compose({"loss.ortho_weighted": weighted, "loss.calibrate": False})
    term = training_pass(composed)["ortho"]
    routers = composed.groups()["routers"]
    found = dict(zip(routers, torch.autograd.grad(term.value, list(routers.values()), allow_unused=True), strict=True))
    last = found["routers.model.layers.1.self_attn.o_proj.weight"]
    first = found["routers.model.layers.0.self_attn.q_proj.weight"]
    assert first is not None
    assert first.abs().max() > 1e-9
    assert (last is not None and bool(last.abs().max() > 1e-9)) == weighted


@pytest.mark.parametrize("scope", ["shared_qkv", "per_layer", "global"])
def test_every_site_counts_however_routers_are_shared(scope: str) -> None:
    """L_o is a mean over all sites, not over the routers."""
    composed = compose({"router.scope": scope, "loss.calibrate": False})
    assert isinstance(composed.loss, AeslLosses)
    training_pass(composed)
    sizes = [0 if overlap.latest is None else overlap.latest.shape[-1] for overlap in composed.loss.overlaps]
    assert sum(sizes) == 8


def gradients(composed: RoutedComposed, cuts: list[Any]) -> tuple[dict[str, float], dict[str, Tensor]]:
    routers = composed.groups()["routers"]
    for parameter in routers.values():
        parameter.grad = None
    values = window_gradient(composed, cuts)
    return values, {name: p.grad.clone() for name, p in routers.items() if p.grad is not None}


@pytest.mark.parametrize("scope", ["ema", "accum"])
def test_cutting_a_window_changes_neither_gradient_nor_calibration(scope: str) -> None:
    whole, parts = (
        compose({"loss.stats_scope": scope, **{f"loss.{t}.coef": 1.0 for t in ("aux", "ortho", "variance")}})
        for _ in range(2)
    )
    for seed in range(2):
        batch = tiny_batch(seed=seed)
        values, expected = gradients(whole, [batch])
        cut_values, found = gradients(parts, [batch[n : n + 2] for n in range(0, 8, 2)])
        assert cut_values == pytest.approx(values, abs=1e-10)
        for name, gradient in expected.items():
            assert (found[name] - gradient).abs().max() < 1e-9, name
        for composed in (whole, parts):
            composed.on_window_end()
    calibrated = [c.state()["statistics.coefficients"] for c in (whole, parts)]
    assert torch.equal(*calibrated)
    assert (calibrated[0] > 0).all()


def test_calibration_brings_terms_to_their_size() -> None:
    """After the first window a term times its coefficient is within half a decade of `coef`, by a power of ten; before,
    the coefficient is 0; afterwards it stays."""
    composed = compose()
    values = {name: term.value.item() for name, term in training_pass(composed).items()}
    assert all(term.coefficient == 0 for term in training_pass(composed).values())
    composed.on_window_end()
    terms = training_pass(composed)
    assert terms.keys() == {"aux", "ortho", "variance"}
    for name, term in terms.items():
        each = term.coefficient / 8  # a sum over eight routers, and as many sites
        assert each in [pytest.approx(10.0**n) for n in range(-9, 9)]
        assert 10**-0.5 <= each * abs(values[name]) / 1e-3 <= 10**0.5
    before = composed.state()["statistics.coefficients"]
    composed.on_window_end()
    assert torch.equal(composed.state()["statistics.coefficients"], before)


def test_calibration_belongs_to_the_state() -> None:
    """A loaded start calibrates anew, as a second trial must."""
    composed, method = compose(), registry.create("aesl")
    start = composed.state()
    method.fit(composed, TinySession(steps=2))
    once = composed.state()
    assert (once["statistics.coefficients"] > 0).all()
    composed.load_state(start)
    method.fit(composed, TinySession(steps=2))
    again = composed.state()
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_uncalibrated_coefficients_are_used_as_they_are() -> None:
    terms = training_pass(compose({"loss.calibrate": False, "loss.aux.coef": 0.0, "loss.variance.coef": 0.3}))
    assert {name: term.coefficient / 8 for name, term in terms.items()} == pytest.approx(
        {"ortho": 1e-3, "variance": 0.3}
    )
