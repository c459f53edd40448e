"""Routers' logits, each option by its formula, trained and as they began."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.routing.config import RouterConfig
from methods.routing.context import RoutingContext
from methods.routing.providers import Bank, LinearRouter, Provider, RandomRouter, wide, wide_linear, wide_parameter
from methods.routing.router import Router
from methods.routing.sparsify import DENSE, Sparsifier
from methods.seeding import generator

LIKE = torch.zeros((), dtype=torch.float64)
X = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
H = torch.zeros(2, 3, 2, 4, 1, dtype=torch.float64)


def routers(like: Tensor = LIKE, **settings: object) -> list[LinearRouter]:
    config = RouterConfig(**{"init_std": 0.5, **settings})  # type: ignore[arg-type]
    return [LinearRouter(4, 5, config, name=name, seed=7, like=like) for name in ("a", "b")]


def test_a_routers_first_rows_follow_from_its_name_and_the_seed() -> None:
    (one, other), config = routers(), RouterConfig(init_std=0.5)
    drawn = torch.randn(4, 5, generator=generator("router", "a", 7)) * 0.5
    assert one.weight.equal(drawn.double())
    assert not one.weight.equal(other.weight)
    assert not LinearRouter(4, 5, config, name="a", seed=8, like=LIKE).weight.equal(one.weight)
    assert one.weight.shape == (4, 5)
    assert (one.bias, one.log_tau) == (None, None)
    assert one.trainable


@pytest.mark.parametrize("initial", [False, True])
def test_logits_are_those_of_the_formula(initial: bool) -> None:
    pair = routers(bias=True, tau=2.0, tau_learn=True, input_norm="rms")
    for router in pair:
        router.remember()
    starts = [(r.weight.detach().clone(), torch.zeros(4), math.log(2.0)) for r in pair]
    with torch.no_grad():
        for number, router in enumerate(pair):
            router.weight += number + 1
            assert router.bias is not None
            assert router.log_tau is not None
            router.bias += torch.arange(4.0) - number
            router.log_tau -= 0.3 * (number + 1)
    now = [(r.weight, r.bias, r.log_tau.item()) for r in pair]  # type: ignore[union-attr]
    normed = X / (X.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    expected = [(normed @ R.T + c) / math.exp(log_tau) for R, c, log_tau in (starts if initial else now)]
    bank = LinearRouter.bank(pair)
    assert bank.logits(X, H, initial=initial).sub(torch.stack(expected, -2)).abs().max() < 1e-12
    given = X @ bank.rows(initial).T
    assert bank.logits(X, H, given, initial=initial).sub(torch.stack(expected, -2)).abs().max() < 1e-12
    assert (bank.n_rows, bank.rows().shape) == (8, (8, 5))


def test_a_fixed_temperature_divides() -> None:
    warm, plain = routers(tau=2.5), routers()
    assert (LinearRouter.bank(warm).logits(X, H) * 2.5).sub(LinearRouter.bank(plain).logits(X, H)).abs().max() < 1e-12


def test_what_is_remembered_is_the_first_state_alone() -> None:
    (router, _) = routers()
    router.remember()
    before = router.weight.detach().clone()
    with torch.no_grad():
        router.weight += 1
    router.remember()
    assert router.value("weight", True).equal(before)
    assert router.value("weight", False).equal(before + 1)


def test_a_version_changes_with_any_parameter() -> None:
    pair = routers(bias=True)
    bank = LinearRouter.bank(pair)
    before = bank.version()
    assert before == bank.version()
    with torch.no_grad():
        pair[1].bias += 1  # type: ignore[operator]
    assert bank.version() != before


def test_routing_is_computed_in_at_least_single_precision() -> None:
    half = X.half()
    assert (wide(half).dtype, wide(X.float()).dtype, wide(X).dtype) == (torch.float32, torch.float32, torch.float64)
    weight = torch.randn(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = wide_linear(X.float(), weight)
    assert product.equal(torch.nn.functional.linear(X.float(), weight))
    assert wide_linear(half, weight).dtype == torch.float32
    parameter = wide_parameter(X, torch.zeros((), dtype=torch.bfloat16))
    assert parameter.dtype == torch.float32
    own = wide_parameter(X, LIKE)
    assert own.dtype == torch.float64
    assert own.data_ptr() != X.data_ptr()
    assert [p.weight.dtype for p in routers(torch.zeros(()))] == [torch.float32] * 2


class Sum(Provider):
    """Logits by the sum of its input and of its experts' shrunk ones."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.scale * (x.sum(-1, keepdim=True) + h.sum(-1))


def test_any_providers_are_computed_one_after_the_other() -> None:
    pair = [Sum(1.0).settled(LIKE), Sum(2.0).settled(LIKE)]
    bank = Bank(pair)
    h = torch.randn(2, 3, 2, 4, 6, dtype=torch.float64)
    for router in pair:
        router.remember()
    with torch.no_grad():
        pair[1].scale += 1
    sums = X.sum(-1, keepdim=True).unsqueeze(-1) + h.sum(-1)
    assert bank.logits(X, h).equal(sums * torch.tensor([1.0, 3.0])[:, None])
    start = bank.initial_logits(X, h)
    assert start is not None
    assert start.equal(sums * torch.tensor([1.0, 2.0])[:, None])
    assert pair[0].scale.dtype == torch.float64
    assert Sum(1.0).settled(torch.zeros(())).scale.dtype == torch.float32
    with pytest.raises(NotImplementedError):
        bank.rows()
    with pytest.raises(NotImplementedError):
        Provider()(X, h)


def random(context: RoutingContext, name: str = "site", seed: int = 0, n: int = 4) -> Tensor:
    return RandomRouter(n, context, name=name, seed=seed)(torch.zeros(1, 5, 3, dtype=torch.float64), H)


IDS = torch.tensor([[7, 8, 9, 7, 8]])
PLACES = torch.arange(5).unsqueeze(0)


def test_random_weights_are_those_of_a_token_at_its_place() -> None:
    context = RoutingContext(input_ids=IDS, position_ids=PLACES)
    drawn = random(context)
    assert drawn.equal(random(context))
    assert drawn.shape == (1, 5, 4)
    assert drawn.dtype == torch.float64
    padded = RoutingContext(input_ids=IDS.roll(1, 1), position_ids=(PLACES - 1).clamp(min=0))
    assert random(padded)[:, 1:].equal(drawn[:, :-1])
    assert not drawn[0, 0].equal(drawn[0, 3])  # one token at two places
    assert not random(context, name="other").equal(drawn)
    assert not random(context, seed=1).equal(drawn)
    other = random(RoutingContext(input_ids=IDS + 1, position_ids=PLACES))
    assert (other == drawn).sum() == 0


def test_without_ids_and_places_the_place_in_the_pass_counts() -> None:
    assert random(RoutingContext()).equal(random(RoutingContext(position_ids=PLACES)))
    assert not random(RoutingContext()).equal(random(RoutingContext(input_ids=IDS)))


def test_random_weights_are_spread_evenly_over_the_simplex() -> None:
    """Dirichlet(1) over N: means 1/N, variances (N - 1)/(N^2 (N + 1)), and no expert knows of another token's."""
    context = RoutingContext(position_ids=torch.arange(20_000).unsqueeze(0))
    router = RandomRouter(4, context, name="site", seed=0)
    p = router(torch.zeros(1, 20_000, 1, dtype=torch.float64), H)[0].softmax(-1)
    assert p.mean(0).sub(0.25).abs().max() < 0.005
    assert p.var(0).sub(3 / 80).abs().max() < 0.002
    assert torch.corrcoef(p.T).sub(torch.eye(4) * 4 / 3 - 1 / 3).abs().max() < 0.03
    assert torch.corrcoef(torch.stack([p[:-1, 0], p[1:, 0]]))[0, 1].abs() < 0.03
    assert not router.trainable


def router_of(context: RoutingContext, sparsifier: Sparsifier = DENSE, jitter: float = 0.0) -> Router:
    return Router(["a", "b"], routers(), sparsifier, context, jitter=jitter)


def test_a_router_keeps_what_is_asked_for_and_nothing_else() -> None:
    context = RoutingContext()
    router = router_of(context, Sparsifier(1, 2))
    w = router.weights(X, H)
    logits = router.bank.logits(X, H)
    assert w.equal(Sparsifier(1, 2)(logits, False))
    assert (router.record, router.observed, router.latest) == (None, None, None)
    context.training = True
    w = router.weights(X, H)
    assert router.record is not None
    assert w.equal(Sparsifier(1, 2)(logits, True))
    assert router.record.w is w
    assert router.record.logits.equal(logits)
    assert (router.record.encoder, router.record.aside, router.observed) == (False, None, None)
    router.clear()
    assert router.record is None
    context.training, context.collect, router.followed = False, True, True
    w = router.weights(X, H)
    assert router.latest is w
    assert router.record is None
    assert router.observed is not None
    assert router.observed.start is not None
    assert router.observed.start.equal(logits)
    assert not router.observed.logits.requires_grad
    router.clear()
    assert (router.observed, router.latest) == (None, None)


def test_jitter_scales_inputs_in_training_alone() -> None:
    context = RoutingContext()
    router, plain = router_of(context, jitter=0.1), router_of(RoutingContext())
    assert router.weights(X, H).equal(plain.weights(X, H))
    context.training = True
    noisy = router.weights(X, H)
    assert not noisy.equal(plain.weights(X, H))
    assert noisy.sub(plain.weights(X, H)).abs().max() < 0.3
    assert not noisy.equal(router.weights(X, H))


def test_an_arrangement_changes_whose_weights_these_are_in_evaluation_alone() -> None:
    class Turn:
        cleared = 0

        def __call__(self, w: Tensor) -> Tensor:
            return w.roll(1, 1)

        def clear(self) -> None:
            self.cleared += 1

    context, turn = RoutingContext(), Turn()
    router = router_of(context)
    plain = router.weights(X, H)
    router.arrangement = turn
    assert router.weights(X, H).equal(plain.roll(1, 1))
    context.training = True
    assert router.weights(X, H).equal(plain)
    router.clear()
    assert turn.cleared == 1
