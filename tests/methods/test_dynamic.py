"""AdaMoLE and DynMoLE: how many experts a token gets follows from the token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods import registry
from methods.adamole import ThresholdRouter
from methods.agreements import agreed
from methods.base import Unsupported
from methods.dynmole import EntropyTopP, tsallis
from methods.loads import LoadLoss
from methods.routing.composed import RoutedComposed
from methods.routing.config import RouterConfig
from methods.routing.router import Record
from methods.routing.sparsify import DENSE
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient

NAMES = ("a", "b", "c", "d")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def compose(name: str, overrides: dict[str, Any] | None = None) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create(name, overrides).install(model, tiny_experts(model, NAMES), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def differ(one: Tensor, two: Tensor, leaves: tuple[Tensor, ...]) -> tuple[float, float]:
    """Largest differences of two outputs, and of their gradients in one direction."""
    towards = draw(*one.shape, seed=9)
    gradients = [torch.autograd.grad((w * towards).sum(), leaves, retain_graph=True) for w in (one, two)]
    gaps = [(a - b).abs().max().item() for a, b in zip(*gradients, strict=True)]
    return (one - two).abs().max().item(), max(gaps)


def threshold(n: int = 4, d: int = 8) -> ThresholdRouter:
    router = ThresholdRouter(n, d, RouterConfig(), name="site", seed=0, like=draw(1))
    with torch.no_grad():
        for seed, parameter in enumerate(router.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    return router


def test_adamole_weighs_as_its_authors() -> None:
    """`AdaMoeLayer.forward`: softmax minus a sigmoid's share of 1/N, what is left over its sum; with gradients."""
    bound = agreed("adamole", "zefang-liu/AdaMoLE")
    router, x = threshold(), draw(50, 8, seed=5)
    bank = ThresholdRouter.bank([router])
    ours = bank.weights(bank.logits(x, x), x, DENSE, True)[..., 0, :]
    gates = F.softmax(x @ router.weight.T, dim=-1)
    thresholds = torch.sigmoid(x @ router.cut[:, None] + router.cut_bias) * (1 / 4)
    adapted = gates - thresholds
    weights = adapted * torch.ge(adapted, 0).to(torch.float64)
    theirs = weights / weights.sum(-1, keepdim=True)
    output, gradient = differ(ours, theirs, tuple(router.parameters()))
    assert bound.output is not None
    assert bound.gradient is not None
    assert output < bound.output
    assert gradient < bound.gradient


def test_a_threshold_keeps_one_to_all() -> None:
    """Never none; and more as the largest threshold falls."""
    x, counts = 3 * draw(200, 8, seed=5), []
    for share in (1.0, 0.5, 1e-6):
        router = threshold()
        router.largest *= share
        bank = ThresholdRouter.bank([router])
        w = bank.weights(bank.logits(x, x), x, DENSE, False)
        assert w.sum(-1).allclose(torch.ones(()).double())
        counts.append((w > 0).sum(-1).double())
        assert counts[-1].min() >= 1
    assert counts[0].unique().numel() > 1
    assert counts[0].mean() < counts[1].mean() < counts[2].mean()


def test_tsallis_entropy() -> None:
    """1 at uniform p, 0 at one-hot, Shannon's over ln N in the limit, and largest in between nowhere."""
    uniform, single = torch.full((5,), 0.2, dtype=torch.float64), torch.eye(5, dtype=torch.float64)[0]
    p = draw(20, 5).softmax(-1)
    for q in (0.5, 1.0, 1.1, 2.0):
        assert tsallis(uniform, q).item() == pytest.approx(1)
        assert tsallis(single, q).item() == pytest.approx(0)
        assert (tsallis(p, q) < 1).all()
    assert (tsallis(p, 1 + 1e-6) - tsallis(p, 1.0)).abs().max() < 1e-5
    shannon = -(p * p.log()).sum(-1) / torch.tensor(5.0).log()
    assert (tsallis(p, 1.0) - shannon).abs().max() < 1e-7


def test_dynmole_weighs_as_its_authors() -> None:
    """`_dynamic_routing`: a mask by cumulated probability, the first k kept, all above an entropy; with gradients."""
    bound = agreed("dynmole", "mikecovlee/DynMoLE")
    logits = (1.5 * draw(300, 6)).requires_grad_()
    ours = EntropyTopP(None, None, "none", entropy=0.8, index=1.1, top_p=0.9, keep_k=2)(logits, True)
    p = F.softmax(logits, dim=-1)
    falling, order = torch.sort(p, dim=-1, descending=True)
    mask = (torch.cumsum(falling, dim=-1) <= 0.9).to(p.dtype)
    mask[..., :2] = 1
    final = torch.zeros_like(p).scatter_(-1, order, mask)
    high = (1 - (p**1.1).sum(-1)) / 0.1 / ((1 - 6 ** (-0.1)) / 0.1) > 0.8
    final[high] = 1
    theirs = p * final
    output, gradient = differ(ours, theirs, (logits,))
    assert bound.output is not None
    assert bound.gradient is not None
    assert output < bound.output
    assert gradient < bound.gradient
    assert {2, 3, 6} <= set((ours > 0).sum(-1).tolist())
    assert 0 < high.double().mean() < 1


@pytest.mark.parametrize("name", ["adamole", "dynmole"])
def test_layer_equals_a_loop(name: str, naive: Any, logits: Any) -> None:
    composed = compose(name)
    parameters = composed.groups()["routers"]
    with torch.no_grad():
        for seed, parameter in enumerate(parameters.values()):
            parameter.copy_(draw(*parameter.shape, seed=seed))

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        own = {leaf: parameters[f"routers.{path}.{leaf}"].detach() for leaf in ("weight",)}
        p = (x @ own["weight"].T).softmax(-1)
        if name == "dynmole":
            return EntropyTopP(None, None, "none")(p.log(), False)
        cut = x @ parameters[f"routers.{path}.cut"].detach() + parameters[f"routers.{path}.cut_bias"].detach()
        over = torch.relu(p - cut.sigmoid()[..., None] / 4)
        return over / over.sum(-1, keepdim=True)

    expected = logits(naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), weigh))
    assert (logits(composed.model) - expected).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["adamole", "dynmole"])
def test_balance_of_one_micro_batch_is_the_formula(name: str) -> None:
    """N sum_i f_i pbar_i over real tokens, f the share of tokens (adamole) or the mean weight (dynmole)."""
    composed, batch = compose(name, {"loss.stats_scope": "microbatch"}), tiny_batch()
    composed.context.training = True
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    mask = batch.attention_mask.bool()
    records: list[Record] = [r.record for r in composed.routers if r.record is not None]
    each = []
    for record in records:
        p, w = record.logits.softmax(-1)[mask], record.w[mask]
        load = (w > 0).double() if name == "adamole" else w
        each.append(4 * (load.mean(0) * p.mean(0)).sum(-1))
    assert isinstance(composed.loss, LoadLoss)
    found = composed.losses()
    assert found["aux"].value.item() == pytest.approx(torch.cat(each).mean().item(), rel=1e-10)
    assert ("entropy" in found) == (name == "dynmole")


@pytest.mark.parametrize("name", ["adamole", "dynmole"])
def test_every_router_has_a_gradient_and_fits(name: str) -> None:
    composed = compose(name)
    window_gradient(composed, [tiny_batch()])
    for key, parameter in composed.groups()["routers"].items():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    session = TinySession(steps=3)
    registry.create(name).fit(compose(name), session)
    assert all(step["aux"] > 0 for step in session.log)


def test_keeping_everything_is_refused() -> None:
    config = tiny_llama().config
    with pytest.raises(Unsupported, match=r"set route\.keep_k below 2"):
        registry.create("dynmole").check(config, NAMES[:2])
    registry.create("dynmole", {"route.keep_k": 1}).check(config, NAMES[:2])
