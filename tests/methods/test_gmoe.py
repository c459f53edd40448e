"""GMoE's routing losses: zero where they should be, blind to the experts' order, and their own parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.agreements import agreed
from methods.gmoe import GmoeLossConfig, GmoeLosses, ReleasedGmoeLosses, absolute_divergence
from methods.routing import losses
from methods.routing.composed import RoutedComposed
from methods.routing.router import Record
from methods.routing.sparsify import DENSE, Sparsifier
from methods.routing.statistics import RoutingBatch
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient

N = 6
LIKE = torch.zeros((), dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, N, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loss_of(settings: dict[str, Any] | None = None, routers: int = 1) -> GmoeLosses:
    config = GmoeLossConfig.model_validate({"stats_scope": "microbatch", **(settings or {})})
    cls = ReleasedGmoeLosses if config.released else GmoeLosses
    return cls(routers, N, config, LIKE)


def batch_of(logits: Tensor, mask: Tensor | None = None, sparsifier: Sparsifier = DENSE) -> RoutingBatch:
    """One router's pass over `[b, t, N]` logits."""
    logits = logits.unsqueeze(-2)
    return RoutingBatch([Record(logits, sparsifier(logits, True))], mask)


def values(loss: GmoeLosses, batch: RoutingBatch) -> tuple[float, float]:
    terms = loss(batch, 1.0)
    return terms["poisson"].value.item(), terms["normal"].value.item()


def test_shapes() -> None:
    """The published shapes for six experts, rate 1.5, width 3; both fall and sum to 1."""
    poisson = losses.poisson_shape(torch.tensor(1.5, dtype=torch.float64), N)
    assert poisson.tolist() == pytest.approx([0.431, 0.324, 0.162, 0.061, 0.018, 0.005], abs=1e-3)
    weights = [1.5**i / math.factorial(i) for i in range(1, N + 1)]
    assert poisson.tolist() == pytest.approx(sorted((w / sum(weights) for w in weights), reverse=True), abs=1e-12)
    normal = losses.normal_shape(torch.tensor(3.0, dtype=torch.float64), N)
    assert normal.tolist() == pytest.approx([0.196, 0.186, 0.186, 0.157, 0.157, 0.119], abs=1e-3)
    weights = [math.exp(-((i - 3) ** 2) / 18) for i in range(1, N + 1)]
    assert normal.tolist() == pytest.approx(sorted((w / sum(weights) for w in weights), reverse=True), abs=1e-12)


def test_distinction_is_zero_only_at_its_shape() -> None:
    """L_P = 0 iff the sorted p is the shape, whichever expert comes first."""
    shape = losses.poisson_shape(torch.tensor(1.5, dtype=torch.float64), N)
    orders = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(seed)) for seed in range(8)])
    at = shape.log()[orders].reshape(2, 4, N)
    assert values(loss_of(), batch_of(at))[0] == pytest.approx(0, abs=1e-12)
    for seed in range(20):
        assert values(loss_of(), batch_of(at + 0.1 * draw(2, 4, seed=seed)))[0] > 1e-5


def test_balance_is_zero_only_at_its_shape() -> None:
    """L_N = 0 iff the sorted load is the shape; equal loads are not the shape."""
    shape = losses.normal_shape(torch.tensor(3.0, dtype=torch.float64), N)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert values(loss_of(), batch_of(shape.log()[order].expand(2, 3, N)))[1] == pytest.approx(0, abs=1e-12)
    assert values(loss_of(), batch_of(torch.zeros(2, 3, N, dtype=torch.float64)))[1] > 1e-3
    for seed in range(20):
        assert values(loss_of(), batch_of(draw(2, 3, seed=seed)))[1] > 1e-3


@pytest.mark.parametrize("released", [False, True])
def test_order_of_experts_does_not_matter(released: bool) -> None:
    logits = draw(3, 7)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, two = (
        values(loss_of({"released": released}), batch_of(part, sparsifier=Sparsifier(3, 3)))
        for part in (logits, logits[..., order])
    )
    assert one == pytest.approx(two, abs=1e-12)


def test_balance_gradient_at_ties_prefers_nobody() -> None:
    """Equal loads share their targets: the gradient treats tied experts alike, and vanishes when all are tied."""
    shape = losses.normal_shape(torch.tensor(3.0, dtype=torch.float64), N)
    load = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.1, 0.1], dtype=torch.float64, requires_grad=True)
    value = losses.load_divergence(shape, load)
    (gradient,) = torch.autograd.grad(value, load)
    assert gradient[:4].std() < 1e-12
    assert gradient[4:].std() < 1e-12
    plain = losses.shape_divergence(shape, load.log())
    assert value.item() == pytest.approx(plain.item(), abs=1e-12)
    (arbitrary,) = torch.autograd.grad(plain, load)
    assert arbitrary[:4].std() > 1e-2  # the control: sorting alone prefers somebody
    logits = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    (flat,) = torch.autograd.grad(losses.load_divergence(shape, logits.softmax(-1)), logits)
    assert flat.abs().max() < 1e-12


def test_gradients_are_those_of_a_plain_formula() -> None:
    """Value and gradient for logits, rate and width, against KL written out over a Python sort."""
    logits = draw(2, 3).requires_grad_()
    loss = loss_of()
    ours = loss(batch_of(logits), 1.0)
    total = sum(term.coefficient * term.value for term in ours.values())
    found = torch.autograd.grad(total, [logits, loss.rate, loss.width])  # type: ignore[arg-type]
    p = logits.softmax(-1).reshape(-1, N)
    rate, width = (parameter[0].detach().clone().requires_grad_() for parameter in (loss.rate, loss.width))
    t = torch.stack([rate**i / math.factorial(i) for i in range(1, N + 1)])
    t = t / t.sum()
    n = torch.stack([torch.exp(-((i - N / 2) ** 2) / (2 * width**2)) for i in range(1, N + 1)])
    n = (n / n.sum()).sort(descending=True).values
    poisson = sum((t * (t / row.sort(descending=True).values).log()).sum() for row in p) / len(p)
    load = p.mean(0).sort(descending=True).values
    plain = 0.005 * poisson + 8 * (n * (n / load).log()).sum()
    assert total.item() == pytest.approx(plain.item(), abs=1e-12)  # type: ignore[union-attr]
    for ours_, expected in zip(found, torch.autograd.grad(plain, [logits, rate, width]), strict=True):
        assert (ours_.squeeze() - expected.squeeze()).abs().max() < 1e-12


def test_shapes_stay_within_bounds() -> None:
    """Rates and widths that the optimiser pushed out come back before they are used again."""
    loss = loss_of()
    with torch.no_grad():
        loss.rate.fill_(5.0)
        loss.width.fill_(-3.0)
    loss(batch_of(draw(2, 3)), 1.0)
    assert loss.rate.item() == 2.0
    assert loss.width.item() == 0.5
    released = loss_of({"released": True})
    with torch.no_grad():
        released.width.fill_(100.0)
    released(batch_of(draw(2, 3)), 1.0)
    assert released.width.item() == 100.0


def test_released_losses() -> None:
    """Documented faults of the released code: gradients that do not vanish at the minimum, fading loads, padding."""
    shape = losses.poisson_shape(torch.tensor(1.5, dtype=torch.float64), N)
    for released, vanishes in ((False, True), (True, False)):
        logits = (shape.log() + 1e-7 * draw()).requires_grad_()
        log_p = logits.log_softmax(-1)
        value = absolute_divergence(shape, log_p.exp(), 1e-16) if released else losses.shape_divergence(shape, log_p)
        (gradient,) = torch.autograd.grad(value, logits)
        assert bool(gradient.abs().max() < 1e-5) == vanishes
    loss = loss_of({"released": True})
    norms = []
    for _ in range(8):
        logits = draw(4, 8).requires_grad_()
        terms = loss(batch_of(logits), 1.0)
        norms.append(torch.autograd.grad(terms["normal"].value, logits)[0].norm().item())
    assert norms[7] == pytest.approx(norms[0] / 8, rel=1e-6)
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[1] = False
    padded = torch.cat([draw(1, 4), 9 * draw(1, 4, seed=1)])
    ours = [values(loss_of(), batch_of(part, m)) for part, m in ((padded, mask), (padded[:1], None))]
    theirs = [
        values(loss_of({"released": True}), batch_of(part, m)) for part, m in ((padded, mask), (padded[:1], None))
    ]
    assert ours[0] == pytest.approx(ours[1], abs=1e-12)
    assert theirs[0] != pytest.approx(theirs[1], abs=1e-3)


@pytest.mark.parametrize("routers", [1, 3, 32])
@pytest.mark.parametrize("k", [2, N])
def test_released_losses_are_the_authors_arithmetic(routers: int, k: int) -> None:
    """Both losses of a first and a second pass, with gradients for logits, rates and widths, written out.

    BAI-LAB/GMoE: loads are sums of the kept probabilities before they are renormalised, times k; normal densities of
    all layers are divided by one sum; rates are clamped to [1, 2]; padding counts.
    """
    loss = loss_of({"released": True}, routers)
    with torch.no_grad():
        loss.rate.copy_(torch.linspace(0.8, 2.2, routers))
        loss.width.copy_(torch.linspace(1.0, 9.0, routers))
    rate, width = (parameter.detach().clone().requires_grad_() for parameter in (loss.rate, loss.width))
    counted = [torch.zeros(N, dtype=torch.float64)] * routers
    for seed in range(2):
        logits = draw(4, 7, routers, seed=seed).requires_grad_()
        record = Record(logits, Sparsifier(k, k)(logits, True))
        ours = loss(RoutingBatch([record], torch.zeros(4, 7, dtype=torch.bool)), 1.0)

        p = logits.flatten(0, 1).softmax(-1)
        shapes = []
        for layer in range(routers):
            at = torch.arange(N, dtype=torch.float64)
            shapes.append(torch.distributions.Normal(N / 2, width[layer]).log_prob(at).exp())
        together = torch.stack(shapes).sum()
        poisson, normal = [], []
        for layer in range(routers):
            clamped = rate[layer].clamp(1, 2)
            t = torch.stack([clamped**i * torch.exp(-clamped) / math.factorial(i) for i in range(1, N + 1)])
            t = t / t.sum()
            ranked = p[:, layer].sort(descending=True).values
            poisson.append((t * (t / (ranked + 1e-16)).log().abs()).sum(-1).mean())
            mass, chosen = p[:, layer].topk(k)
            new = torch.zeros_like(p[:, layer]).scatter(-1, chosen, mass).sum(0) * k
            count = counted[layer] * k + new
            counted[layer] = count.detach() / k
            load = (count / count.sum()).sort(descending=True).values
            n = (shapes[layer] / together).sort(descending=True).values
            normal.append((n * (n / (load + 1e-8)).log().abs()).sum())
        theirs = {"poisson": torch.stack(poisson).mean(), "normal": torch.stack(normal).mean()}
        assert ours.keys() == theirs.keys()
        for name, expected in theirs.items():
            agreement = agreed("gmoe", "BAI-LAB/GMoE", "loss.released=true")
            assert ours[name].value.item() == pytest.approx(expected.item(), abs=agreement.loss)
            mine = torch.autograd.grad(
                ours[name].value, [logits, loss.rate, loss.width], retain_graph=True, materialize_grads=True
            )
            other = torch.autograd.grad(expected, [logits, rate, width], retain_graph=True, materialize_grads=True)
            for a, b in zip(mine, other, strict=True):
                assert (a - b).abs().max() < agreement.gradient, name


def compose(overrides: dict[str, Any] | None = None) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    method = registry.create("gmoe", {"router.init_std": 0.5, **(overrides or {})})
    composed = method.install(model, tiny_experts(model), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def gradients(composed: RoutedComposed, cuts: list[Any]) -> dict[str, Tensor]:
    groups = list(composed.groups().values())
    for group in groups:
        for parameter in group.values():
            parameter.grad = None
    window_gradient(composed, cuts)
    return {name: p.grad.clone() for group in groups for name, p in group.items() if p.grad is not None}


@pytest.mark.parametrize("scope", ["ema", "accum"])
def test_cutting_a_window_changes_no_gradient(scope: str) -> None:
    """Of routers, rates and widths, before and after there is a history of loads."""
    composed = compose({"loss.stats_scope": scope, "loss.poisson.coef": 1.0})
    for seed in range(2):
        batch = tiny_batch(seed=seed)
        whole = gradients(composed, [batch])
        assert composed.loss is not None
        composed.loss.statistics._forget()
        parts = gradients(composed, [batch[n : n + 2] for n in range(0, 8, 2)])
        assert {"loss.rate", "loss.width"} < whole.keys()
        for name, gradient in whole.items():
            assert (parts[name] - gradient).abs().max() < 1e-9, name
        composed.on_window_end()


def test_shapes_are_trained_and_counted_apart() -> None:
    """Two numbers per router in the group `loss`; they move, and at their own rate."""
    for rate in (None, 1e-4):
        composed = compose({"loss.lr": rate})
        groups = composed.groups()
        assert groups.keys() == {"routers", "loss"}
        assert {name: p.shape for name, p in groups["loss"].items()} == {"loss.rate": (8,), "loss.width": (8,)}
        before = composed.state()
        method = registry.create("gmoe", {"loss.lr": rate})
        method.fit(composed, TinySession(steps=2))
        moved = (composed.state()["loss.width"] - before["loss.width"]).abs().max().item()
        assert 0 < moved < 2.1 * (rate or 1e-2)
