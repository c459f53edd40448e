"""PHATGOOSE: standardised scores, gates that learn from their own expert's examples alone, and gates that did not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Composed, Expert, SiteFactors, TrainingPhase, Unsupported
from methods.phatgoose import GateThenRank, PhatgooseBank, PhatgooseGates
from methods.routing.composed import RoutedComposed
from methods.routing.context import RoutingContext
from methods.routing.groups import RoutedGroup
from methods.routing.linear import RoutedLinear
from methods.routing.router import Router
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama

N, D = 6, 24
NAMES = ("a", "b", "c", "d")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def one_site(pool: list[SiteFactors | None], d_out: int = 16) -> tuple[RoutedLinear, PhatgooseGates, RoutingContext]:
    context = RoutingContext()
    site = RoutedLinear("site", torch.nn.Linear(D, d_out, bias=False, dtype=torch.float64), pool)
    site.provider = gates = PhatgooseGates(site, context)
    return site, gates, context


def scores(v: Tensor, x: Tensor) -> Tensor:
    """Scores `[..., N]` of gates `[N, D]` for x `[..., D]`."""
    pool: list[SiteFactors | None] = [SiteFactors(draw(2, D, seed=n), draw(16, 2, seed=n), 1.0) for n in range(len(v))]
    _, gates, _ = one_site(pool)
    with torch.no_grad():
        for parameter, values in zip(gates.gates, v, strict=True):
            parameter.copy_(values)
    return PhatgooseGates.bank([gates]).logits(x, x)[..., 0, :].detach()


def test_scores_are_correlations() -> None:
    """Score = sqrt(d) times the Pearson correlation over entries (up to eps); a zero gate scores 0."""
    v, x = 10 * draw(N, D), 10 * draw(2, 3, D, seed=1)
    v[4] = 0
    found = scores(v, x)
    for index in [(0, 0), (1, 2)]:
        expected = torch.corrcoef(torch.cat([x[index][None], v[[0, 1, 2, 3, 5]]]))[0, 1:] * D**0.5
        assert (found[index][[0, 1, 2, 3, 5]] - expected).abs().max() < 1e-5
    assert (found[..., 4] == 0).all()


@pytest.mark.parametrize("c", [3.0, -2.0])
def test_scores_ignore_scale_and_shift(c: float) -> None:
    """x -> cx + b and v -> cv + e leave scores for c > 0 and flip them for c < 0."""
    v, x = 10 * draw(N, D), 10 * draw(2, 3, D, seed=1)
    plain, sign = scores(v, x), 1 if c > 0 else -1
    assert (scores(v, c * x + 7) - sign * plain).abs().max() < 1e-5
    assert (scores(c * v - 5, x) - sign * plain).abs().max() < 1e-5
    assert (scores(v, x + draw(D, seed=2)) - plain).abs().max() > 1e-2  # the control: a change that is no shift


def test_two_best_are_a_softmax_over_their_scores() -> None:
    """Softmax over all, the two best, renormalised = softmax over the two scores."""
    logits = 3 * draw(50, N)
    w = GateThenRank(None, 2)(logits, False)
    p = logits.softmax(-1)
    best = p.topk(2, -1).indices
    expected = torch.zeros_like(p).scatter(-1, best, p.gather(-1, best))
    assert (w - expected / expected.sum(-1, keepdim=True)).abs().max() < 1e-12
    kept = logits.gather(-1, best).softmax(-1)
    assert (w.gather(-1, best) - kept).abs().max() < 1e-12


def compose(
    names: tuple[str, ...] = NAMES, overrides: dict[str, Any] | None = None, dtype: torch.dtype = torch.float64
) -> RoutedComposed:
    model = tiny_llama(dtype=dtype)
    composed = registry.create("phatgoose", overrides).install(model, tiny_experts(model, names), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def randomise(composed: Composed) -> None:
    with torch.no_grad():
        for key, parameter in composed.groups()["routers"].items():
            parameter.copy_(draw(*parameter.shape, seed=hash_of(key)))


def hash_of(text: str) -> int:
    return sum(map(ord, text)) * 31 + len(text)


@pytest.mark.parametrize("gated", [False, True])
def test_training_sees_the_own_expert_through_its_gate(gated: bool, naive: Any) -> None:
    """y = W x + sigmoid(v.x) s B A x with the sequence's own expert alone; v = 0 halves the update."""
    composed = compose()
    if gated:
        randomise(composed)
    experts = tiny_experts(tiny_llama(dtype=torch.float64), NAMES)
    gates = composed.groups()["routers"]
    batch = tiny_batch()

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        w = x.new_zeros(*x.shape[:-1], len(deltas))
        for row, own in enumerate(batch.domain.tolist()):
            v = gates[f"routers.{path}.gates.{own}"].detach()
            w[row, :, own] = (x[row] @ v).sigmoid() if gated else 0.5
        return w

    composed.context.training, composed.context.domain = True, batch.domain
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    ours = composed.model(**inputs).logits
    with torch.no_grad():
        assert (ours - naive(experts, weigh)(**inputs).logits).abs().max() < 1e-9
        composed.context.training = False
        assert (composed.model(**inputs).logits - ours).abs().max() > 1e-3  # inference ranks instead


def test_inference_equals_a_loop(naive: Any, topk: Any, logits: Any) -> None:
    """Against a loop over experts: standardise both, scale by sqrt(d), softmax, two best, no sigmoid."""
    composed = compose()
    randomise(composed)
    experts = tiny_experts(tiny_llama(dtype=torch.float64), NAMES)
    gates = composed.groups()["routers"]

    def standardised(z: Tensor) -> Tensor:
        return (z - z.mean(-1, keepdim=True)) / (z.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        v = torch.stack([gates[f"routers.{path}.gates.{n}"].detach() for n in range(4)])
        return topk((standardised(x) @ standardised(v).T / x.shape[-1] ** 0.5).softmax(-1), 2)

    assert (logits(composed.model) - logits(naive(experts, weigh))).abs().max() < 1e-9


class Watching(TinySession):
    """Keeps the phases and what each of them moved."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.phases: list[TrainingPhase] = []
        self.moved: list[set[str]] = []

    def train(self, composed: Composed, phase: TrainingPhase) -> None:
        before = composed.state()
        super().train(composed, phase)
        self.phases.append(phase)
        self.moved.append({key for key, value in composed.state().items() if not torch.equal(value, before[key])})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_phase_for_each_expert(dtype: torch.dtype) -> None:
    """Every expert has a phase on its own examples, which moves its gates and no other's."""
    composed, session = compose(dtype=dtype), Watching()
    registry.create("phatgoose").fit(composed, session)
    assert [phase.data for phase in session.phases] == [f"expert:{name}" for name in NAMES]
    for n, (phase, moved) in enumerate(zip(session.phases, session.moved, strict=True)):
        assert (dict(phase.lr), phase.max_steps, phase.weight_decay) == ({"routers": 5e-3}, 100, 0.0)
        assert moved == {key for key in composed.groups()["routers"] if key.endswith(f".gates.{n}")}


def test_gates_know_nothing_of_other_experts() -> None:
    """Decentralised: an expert's gates are the same whoever else is in the pool."""
    fitted = []
    for names in (NAMES, ("a", "x", "y", "z")):
        composed = compose(names)
        registry.create("phatgoose").fit(composed, TinySession())
        fitted.append({k: p.detach() for k, p in composed.groups()["routers"].items() if k.endswith(".gates.0")})
    assert fitted[0].keys() == fitted[1].keys()
    for key, gate in fitted[0].items():
        assert gate.norm() > 1e-3
        assert (gate - fitted[1][key]).abs().max() < 1e-9


def test_own_inputs_win_on_separable_data() -> None:
    """Experts that help on inputs around their own mean; gates trained each on its own inputs send unseen
    inputs home. Gates that were never trained do not (control)."""
    pool: list[SiteFactors | None] = [SiteFactors(draw(2, D, seed=n), draw(16, 2, seed=n + 9), 1.0) for n in range(N)]
    site, gates, context = one_site(pool)
    RoutedGroup([site], Router(["site"], [gates], GateThenRank(None, 2), context))
    centres = draw(N, D, seed=99)
    optimizer = torch.optim.AdamW(gates.parameters(), lr=5e-3, weight_decay=0.0)

    def inputs(own: int, seed: int) -> Tensor:
        return centres[own] + 0.7 * draw(16, 4, D, seed=seed)

    def accuracy() -> float:
        context.training = False
        with torch.no_grad():
            bank = PhatgooseBank([gates])
            hits = [bank.logits(inputs(n, 1000 + n), inputs(n, 0))[..., 0, :].argmax(-1) == n for n in range(N)]
        return torch.stack(hits).double().mean().item()

    before = accuracy()
    for own in range(N):
        context.training, context.domain = True, torch.full((16,), own)
        factors = pool[own]
        assert factors is not None
        for step in range(100):
            x = inputs(own, 100 * own + step)
            wanted = site.base(x) + factors.scale * (x @ factors.A.T) @ factors.B.T
            (site(x) - wanted).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert before < 0.4
    assert accuracy() > 0.95


def test_gates_that_did_not_move_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """An expert whose B is zero gives its gate no gradient; the record says so, as the log does. Sites that an expert
    lacks are no fault of its gates."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    still = {path: SiteFactors(f.A, torch.zeros_like(f.B), f.scale) for path, f in experts[1].sites.items()}
    fewer = {path: f for path, f in experts[2].sites.items() if "v_proj" in path}
    pool = [experts[0], Expert("b", still), Expert("c", fewer), experts[3]]
    method = registry.create("phatgoose")
    composed = method.install(model, pool, seed=0)
    assert len(method.notes(composed)) == 4
    with caplog.at_level(logging.WARNING):
        method.fit(composed, TinySession())
    (note,) = method.notes(composed)
    assert note.startswith("8 of 8 gates of the expert b have not moved (length below 0.0001)")
    assert caplog.messages == [note]


def test_training_needs_the_domain() -> None:
    composed = compose()
    batch = tiny_batch()
    for domain in (None, torch.full((8,), -1)):
        composed.context.training, composed.context.domain = True, domain
        with pytest.raises(RuntimeError, match="own expert's examples"):
            composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)


def test_gates_are_wide_in_half_precision() -> None:
    """bfloat16 would lose the direction of small gates."""
    model = tiny_llama(dtype=torch.bfloat16)
    composed = registry.create("phatgoose").install(model, tiny_experts(model, NAMES), seed=0)
    assert {p.dtype for p in composed.groups()["routers"].values()} == {torch.float32}
    assert sum(p.numel() for p in composed.groups()["routers"].values()) == 4 * 2 * 4 * 32


def test_small_pools_are_refused() -> None:
    config = tiny_llama().config
    with pytest.raises(Unsupported, match=r"set route\.eval_k below 2"):
        registry.create("phatgoose").check(config, NAMES[:2])
    registry.create("phatgoose", {"route.dense": True}).check(config, NAMES[:2])
