"""LD-MoLE: Sparsegen's projection, its sparsity predicted for every token, and the loss that says how sparse."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods import conformance, registry
from methods.agreements import agreed
from methods.base import Unsupported
from methods.ld_mole import SparsegenRouter, SparsityConfig, shortfall, sparsegen
from methods.routing.composed import RoutedComposed
from methods.routing.config import RouterConfig
from methods.routing.sparsify import DENSE
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient

NAMES = ("a", "b", "c", "d")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def compose(overrides: dict[str, Any] | None = None) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create("ld-mole", overrides).install(model, tiny_experts(model, NAMES), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def shaken(overrides: dict[str, Any] | None = None) -> RoutedComposed:
    composed = compose(overrides)
    with torch.no_grad():
        for seed, parameter in enumerate(composed.groups()["routers"].values()):
            parameter.add_(0.5 * draw(*parameter.shape, seed=seed))
    return composed


def test_it_is_the_minimiser() -> None:
    """Projected gradient steps on |p - z|^2 - lambda |p|^2 over the simplex end there; and the weights sum to one."""
    z, lam = draw(30, 5), 0.98 * draw(30, seed=1).tanh()
    found = sparsegen(z, lam)
    assert found.sum(-1).allclose(torch.ones(()).double(), atol=1e-12)
    assert (found >= 0).all()
    p = torch.full_like(z, 0.2)
    for _ in range(4000):
        p = p - 0.2 * ((1 - lam[:, None]) * p - z)
        p = sparsegen(p, torch.zeros(len(p)).double())  # the Euclidean projection
    assert (p - found).abs().max() < 1e-6


def test_limits() -> None:
    """The largest score alone as lambda rises to 1, uniform as it falls, one expert at least, more as lambda falls."""
    z = draw(50, 6)
    lams = [torch.full((50,), value, dtype=torch.float64) for value in (1 - 1e-9, 0.9, 0.0, -5.0, -1e9)]
    each = [sparsegen(z, lam) for lam in lams]
    assert (each[0] - F.one_hot(z.argmax(-1), 6)).abs().max() < 1e-6
    assert (each[-1] - 1 / 6).abs().max() < 1e-6
    counts = [(w > 0).sum(-1) for w in each]
    assert all((one <= two).all() for one, two in pairwise(counts))
    assert min(count.min() for count in counts) == 1
    shifted = sparsegen(z + 3.0, lams[2])
    assert (shifted - each[2]).abs().max() < 1e-12


def test_a_router_weighs_as_its_authors() -> None:
    """`GlobalSparsegen`: log-sigmoid of a two-layer network, plus 1 - eps; sort, support, threshold; with gradients."""
    bound = agreed("ld-mole", "eshentw/LD-MoLE")
    n, d = 6, 8
    router = SparsegenRouter(n, d, RouterConfig(), SparsityConfig(hidden=16), None, name="site", seed=0, like=draw(1))
    with torch.no_grad():
        for seed, parameter in enumerate(router.parameters()):
            parameter.add_(draw(*parameter.shape, seed=seed))
    x, bank = draw(60, d, seed=5), SparsegenRouter.bank([router])
    ours = bank.weights(bank.logits(x, x), x, DENSE, True)[..., 0, :]
    z = x @ router.weight.T
    lam = F.logsigmoid(router.network(x)) + (1 - 0.01)
    ordered, _ = torch.sort(z, descending=True, dim=1)
    inside = (1 - lam + torch.arange(1, n + 1) * ordered > ordered.cumsum(1)).double()
    tau = ((inside * ordered).sum(-1, keepdim=True) - 1 + lam) / inside.sum(1, keepdim=True)
    theirs = (z - tau).clamp(min=0) / (1 - lam).clamp(min=0.01)
    towards = draw(60, n, seed=9)
    leaves = tuple(router.parameters())
    gradients = [torch.autograd.grad((w * towards).sum(), leaves, retain_graph=True) for w in (ours, theirs)]
    assert bound.output is not None
    assert bound.gradient is not None
    assert (ours - theirs).abs().max().item() < bound.output
    assert max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True)) < bound.gradient
    assert len((ours > 0).sum(-1).unique()) > 2


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_sparsity_loss_is_zero_exactly_where_no_more_than_k_are_kept(k: int) -> None:
    """And raising lambda by it leaves a token at most k experts."""
    z, lam = draw(400, 6), 0.9 - 4 * draw(400, seed=1).square()
    short = shortfall(z, lam, k)
    kept = (sparsegen(z, lam) > 1e-12).sum(-1)
    assert torch.equal(short == 0, kept <= k)
    assert ((sparsegen(z, lam + short + 1e-9) > 1e-12).sum(-1) <= k).all()
    assert 0 < (short > 0).double().mean() < 1


def test_losses_are_the_authors_arithmetic() -> None:
    """`LoadBalancingLoss`: mean weights times shares of all picks, N times, mean over modules; `lambda_interval_k`."""
    bound = agreed("ld-mole", "eshentw/LD-MoLE", "loss.sparse.coef=0.1")
    composed, batch = shaken({"loss.stats_scope": "microbatch", "loss.sparse.coef": 0.1}), tiny_batch()
    composed.context.training = True
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    mask = batch.attention_mask.bool()
    records = [r.record for r in composed.routers if r.record is not None]
    balances, sparse = [], []
    for record in records:
        assert record.aside is not None
        for site in range(record.w.shape[2]):
            w, z, lam = record.w[mask][:, site], record.logits[mask][:, site].detach(), record.aside[mask][:, site]
            picks = torch.sign(w).sum(0)
            balances.append((w.mean(0) * picks / picks.sum()).sum() * 4)
            ordered = z.sort(-1, descending=True).values
            least = 1 - (ordered[:, :2].sum(-1) - 2 * ordered[:, 2])
            sparse.append(torch.relu(least - lam).mean())
    theirs = torch.stack(balances).mean() + 0.1 * torch.stack(sparse).mean()
    terms = composed.losses()
    ours = sum((term.coefficient * term.value for term in terms.values()), torch.zeros(()).double())
    leaves = tuple(composed.groups()["routers"].values())
    gradients = [torch.autograd.grad(total, leaves, retain_graph=True) for total in (ours, theirs)]
    assert bound.loss is not None
    assert bound.gradient is not None
    assert (ours - theirs).abs().item() < bound.loss
    assert max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True)) < bound.gradient
    assert terms["sparse"].value > 0


def test_layers_equal_a_loop(naive: Any, logits: Any) -> None:
    composed = shaken()
    parameters = {name: p.detach() for name, p in composed.groups()["routers"].items()}
    (network,) = {name.partition(".sparsity.")[0] for name in parameters if ".sparsity." in name}
    first, last = ({leaf: parameters[f"{network}.sparsity.{n}.{leaf}"] for leaf in ("weight", "bias")} for n in (0, 2))

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        hidden = torch.relu(x @ first["weight"].T + first["bias"])
        lam = F.logsigmoid(hidden @ last["weight"].T + last["bias"])[..., 0] + 0.99
        return sparsegen(x @ parameters[f"routers.{path}.weight"].T, lam)

    expected = logits(naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), weigh))
    assert (logits(composed.model) - expected).abs().max() < 1e-9


def test_one_network_serves_all_inputs_of_a_width() -> None:
    """It is trained, counted and stored once, and a second one only where inputs are wider."""
    narrow = [name for name in compose().groups()["routers"] if ".sparsity." in name]
    assert len(narrow) == 4
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES, targets=("q_proj", "gate_proj", "down_proj"))
    wider = registry.create("ld-mole").install(model, experts, seed=0).groups()["routers"]
    assert len([name for name in wider if ".sparsity." in name]) == 8


def test_every_parameter_has_a_gradient_and_fits() -> None:
    composed = compose({"loss.sparse.coef": 0.1})
    window_gradient(composed, [tiny_batch()])
    for key, parameter in composed.groups()["routers"].items():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    assert all(router.record is None and router.bank.aside is None for router in composed.routers)
    session = TinySession(steps=3)
    registry.create("ld-mole").fit(compose(), session)
    assert session.log[0].keys() == {"task", "aux"}


def test_allowing_every_expert_is_refused() -> None:
    config = tiny_llama().config
    method = registry.create("ld-mole", {"loss.sparse.coef": 0.1})
    with pytest.raises(Unsupported, match=r"set loss\.sparse\.k below 2"):
        method.check(config, NAMES[:2])
    registry.create("ld-mole").check(config, NAMES[:2])


def test_variant_conforms() -> None:
    conformance.check("ld-mole", {"loss.sparse.coef": 0.1, "router.scope": "global", "loss.stats_scope": "accum"})
