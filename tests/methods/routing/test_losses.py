"""The loss zoo: closed forms of values and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from methods.routing import losses
from methods.routing.auxiliary import RouterLosses
from methods.routing.config import LossConfig
from methods.routing.router import Record
from methods.routing.sparsify import DENSE, Sparsifier
from methods.routing.statistics import RoutingBatch

N = 6
TIGHT = 1e-12


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, N, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch_of(logits: Tensor, mask: Tensor | None = None, sparsifier: Sparsifier = DENSE) -> RoutingBatch:
    """One router's pass over `[b, t, N]` logits."""
    logits = logits.unsqueeze(-2)
    return RoutingBatch([Record(logits, sparsifier(logits, training=True))], mask)


def loss_of(settings: dict[str, object], *, scope: str = "microbatch", routers: int = 1) -> RouterLosses:
    config = LossConfig.model_validate({"stats_scope": scope, "warmup_frac": 0.0, **settings})
    return RouterLosses(routers, N, config, torch.zeros((), dtype=torch.float64))


def total(loss: RouterLosses, batch: RoutingBatch, progress: float = 1.0) -> Tensor:
    return torch.stack([term.coefficient * term.value for term in loss(batch, progress).values()]).sum()


@pytest.mark.parametrize("form", [losses.entropy_of_logits, lambda logits: losses.entropy(logits.softmax(-1))])
def test_entropy_gradient(form: object) -> None:
    """dH/dl_i = -p_i (log p_i + H); exactly 0 at uniform and at one-hot p."""
    assert callable(form)
    logits = random_logits(20).requires_grad_()
    entropy = form(logits)
    (gradient,) = torch.autograd.grad(entropy.sum(), logits)
    p = logits.detach().softmax(-1)
    assert (gradient + p * (p.log() + entropy.detach().unsqueeze(-1))).abs().max() < TIGHT
    flat = torch.full((N,), 0.3, dtype=torch.float64, requires_grad=True)
    value = losses.entropy_of_logits(flat)
    assert value.item() == pytest.approx(math.log(N), abs=TIGHT)
    assert torch.autograd.grad(value, flat)[0].abs().max() < TIGHT
    certain = torch.tensor([800.0, 0, 0, 0, 0, 0], dtype=torch.float64, requires_grad=True)
    value = losses.entropy_of_logits(certain)
    assert value == 0
    assert torch.autograd.grad(value, certain)[0].abs().max() == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_entropy_sign(sign: int) -> None:
    """400 SGD steps on free logits; +1 sharpens p and keeps the mean balanced, -1 gives the uniform router."""
    logits = (0.3 * random_logits(4, 128)).requires_grad_()
    loss = loss_of({"aux": {"coef": 0.1, "f_mode": "mean_prob"}, "entropy": {"coef": 0.05, "sign": sign}})
    optimizer = torch.optim.SGD([logits], lr=2000.0)
    for _ in range(400):
        optimizer.zero_grad()
        total(loss, batch_of(logits)).backward()
        optimizer.step()
    p = logits.detach().softmax(-1)
    mean_entropy, largest = losses.entropy(p).mean(), p.mean((0, 1)).max()
    if sign == 1:
        assert mean_entropy < 0.1
        assert largest < 0.25
    else:
        assert mean_entropy > math.log(N) - 1e-3


def test_balance_gradient() -> None:
    """With fbar stopped, dL/dl_ti = p_ti (f_i - sum_j p_tj f_j) / T."""
    logits = random_logits(3, 7).requires_grad_()
    loss = loss_of({"entropy": {"coef": 0.0}, "aux": {"coef": 1.0}})
    batch = batch_of(logits, sparsifier=Sparsifier(3, 3))
    (gradient,) = torch.autograd.grad(total(loss, batch), logits)
    p = logits.detach().softmax(-1)
    f = batch.fbar("topk_score")[0].detach()
    expected = p * (f - (p * f).sum(-1, keepdim=True)) / 21
    assert (gradient - expected).abs().max() < TIGHT


def test_balance_of_mean_probabilities_is_least_at_uniform() -> None:
    """With mean_prob the loss is at least 1/N, with equality if and only if pbar is uniform."""
    loss = loss_of({"entropy": {"coef": 0.0}, "aux": {"coef": 1.0, "f_mode": "mean_prob"}})
    for seed in range(20):
        assert total(loss, batch_of(random_logits(2, 5, seed=seed))) > 1 / N
    turns = 8 * torch.eye(N, dtype=torch.float64).reshape(1, N, N)
    assert total(loss, batch_of(turns)).item() == pytest.approx(1 / N, abs=TIGHT)


@pytest.mark.parametrize("detach", [True, False])
def test_balance_gradient_doubles_without_detaching(detach: bool) -> None:
    """With mean_prob the loss is sum pbar^2: holding f constant halves its gradient and leaves its value."""
    logits = random_logits(3, 7).requires_grad_()
    loss = loss_of({"entropy": {"coef": 0.0}, "aux": {"coef": 1.0, "f_mode": "mean_prob", "detach_f": detach}})
    value = total(loss, batch_of(logits))
    (gradient,) = torch.autograd.grad(value, logits)
    square = logits.softmax(-1).mean((0, 1)).square().sum()
    (full,) = torch.autograd.grad(square, logits)
    assert (value - square).abs() < TIGHT
    assert (gradient - full * (0.5 if detach else 1.0)).abs().max() < TIGHT


def test_outer_factor() -> None:
    """(outer 0.1, 1, 0.5) is (outer 1, 0.1, 0.05): the paper's two statements of lambda agree."""
    batch = batch_of(random_logits(3, 7), sparsifier=Sparsifier(3, 3))
    once = total(loss_of({"aux": {"coef": 0.1}, "entropy": {"coef": 0.05}}), batch)
    outer = total(loss_of({"outer": 0.1, "aux": {"coef": 1.0}, "entropy": {"coef": 0.5}}), batch)
    assert (once - outer).abs() < TIGHT


def test_factor_n() -> None:
    """`times_N` multiplies the balance term by N, so that balance gives 1."""
    turns = 8 * torch.eye(N, dtype=torch.float64).reshape(1, N, N)
    loss = loss_of({"entropy": {"coef": 0.0}, "aux": {"coef": 1.0, "f_mode": "mean_prob", "times_N": True}})
    assert total(loss, batch_of(turns)).item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("mode", ["topk_score", "top1_freq", "topk_freq", "mean_prob"])
def test_loads_sum_to_one(mode: str) -> None:
    """Every reading of fbar is a distribution, also without renormalisation, and equals its definition in loops."""
    logits = random_logits(3, 7)
    batch = batch_of(logits, sparsifier=Sparsifier(2, 2, "none"))
    p = logits.softmax(-1).reshape(-1, N)
    expected = torch.zeros(N, dtype=torch.float64)
    for row in p:
        best = row.argsort(descending=True)[:2]
        if mode == "topk_score":
            expected[best] += row[best] / row[best].sum()
        elif mode == "top1_freq":
            expected[best[0]] += 1
        elif mode == "topk_freq":
            expected[best] += 0.5
        else:
            expected += row
    fbar = batch.fbar(mode)[0]
    assert fbar.sum().item() == pytest.approx(1.0, abs=TIGHT)
    assert (fbar - expected / len(p)).abs().max() < TIGHT


def test_mutual_information() -> None:
    """-H(pbar) + E[H(p)] = -E[KL(p || pbar)], between -ln N and 0; 0 for constant p and for all tokens to one."""
    loss = loss_of({"aux": {"coef": 0.0}, "entropy": {"coef": 0.0}, "mi": {"coef": 1.0}})
    logits = random_logits(4, 5)
    p = logits.softmax(-1)
    divergence = (p * (p / p.mean((0, 1))).log()).sum(-1).mean()
    assert (total(loss, batch_of(logits)) + divergence).abs() < TIGHT
    assert total(loss, batch_of(logits[:1, :1].expand(4, 5, N))).abs() < TIGHT
    one = torch.zeros(4, 5, N, dtype=torch.float64)
    one[..., 2] = 200.0
    assert total(loss, batch_of(one)).abs() < TIGHT
    turns = 200 * torch.eye(N, dtype=torch.float64).reshape(1, N, N)
    assert total(loss, batch_of(turns)).item() == pytest.approx(-math.log(N), abs=TIGHT)


def test_squared_cv() -> None:
    """Unchanged by scaling all loads; 0 at equal loads; N - 1 when one expert has it all."""
    load = random_logits().exp()
    assert (losses.squared_cv(load) - losses.squared_cv(7 * load)).abs() < TIGHT
    assert losses.squared_cv(torch.ones(N)) == 0
    assert losses.squared_cv(torch.eye(N)[0]).item() == pytest.approx(N - 1)


def test_z_loss() -> None:
    logits = random_logits(2, 3)
    loss = loss_of({"aux": {"coef": 0.0}, "entropy": {"coef": 0.0}, "z": {"coef": 2.0}})
    expected = 2 * logits.exp().sum(-1).log().square().mean()
    assert (total(loss, batch_of(logits)) - expected).abs() < TIGHT


def test_preserve() -> None:
    """Value and gradient are 0 at the reference; the gradient is 2 beta (theta - theta0), not a mean."""
    reference = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    now = [tensor.clone().requires_grad_() for tensor in reference]
    value = losses.preserve(zip(now, reference, strict=True))
    assert value == 0
    assert all(gradient.abs().max() == 0 for gradient in torch.autograd.grad(value, now))
    moved = [(tensor + 0.5).requires_grad_() for tensor in reference]
    value = 0.25 * losses.preserve(zip(moved, reference, strict=True))
    assert value.item() == pytest.approx(0.25 * 17 * 0.25)
    for gradient, tensor, start in zip(torch.autograd.grad(value, moved), moved, reference, strict=True):
        assert (gradient - 2 * 0.25 * (tensor - start)).abs().max() < TIGHT


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_warm_up(shape: str) -> None:
    """The multiplier is 0 at step 0, 1 from 30 % on, and monotone."""
    values: Sequence[float] = [losses.ramp(step / 100, 0.3, shape) for step in range(101)]
    assert values[0] == 0
    assert all(value == 1 for value in values[30:])
    assert all(before <= after for before, after in pairwise(values))
    assert losses.ramp(0.15, 0.3, shape) == pytest.approx(0.5)
    assert losses.ramp(0.0, 0.0, shape) == 1


def test_coefficients_ramp_and_values_do_not() -> None:
    loss = loss_of({"warmup_frac": 0.3})
    batch = batch_of(random_logits(3, 7))
    start, half, full = (loss(batch, progress) for progress in (0.0, 0.15, 0.9))
    for name, coefficient in (("aux", 0.1), ("entropy", 0.05)):
        assert (start[name].coefficient, full[name].coefficient) == (0.0, coefficient)
        assert half[name].coefficient == pytest.approx(coefficient / 2)
        assert start[name].value == full[name].value


def test_terms_without_coefficient_are_left_out() -> None:
    batch = batch_of(random_logits(3, 7))
    assert loss_of({})(batch, 1.0).keys() == {"aux", "entropy"}
    assert loss_of({"entropy": {"sign": 0}})(batch, 1.0).keys() == {"aux"}
    assert loss_of({"aux": {"coef": 0.0}, "entropy": {"coef": 0.0}})(batch, 1.0) == {}


def test_shapes_of_gmoe_fall_and_sum_to_one_for_each_router() -> None:
    """Shares rate^i / i! and exp(-(i - n/2)^2 / 2 width^2) over i = 1..n, by hand; routers are rows."""
    rates = torch.tensor([0.5, 3.0], dtype=torch.float64)
    for shape, share in (
        (losses.poisson_shape, lambda rate, i: rate**i / math.factorial(i)),
        (losses.normal_shape, lambda width, i: math.exp(-((i - N / 2) ** 2) / (2 * width**2))),
    ):
        for row, rate in zip(shape(rates, N), rates.tolist(), strict=True):
            shares = sorted((share(rate, i) for i in range(1, N + 1)), reverse=True)
            assert row.tolist() == pytest.approx([one / sum(shares) for one in shares])


def test_divergences_from_a_shape_do_not_know_which_expert_is_which() -> None:
    rates = torch.tensor([0.5, 3.0], dtype=torch.float64)
    shape = losses.poisson_shape(rates, N)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    loads = random_logits(2).softmax(-1)
    kl = (shape * (shape.log() - loads.sort(-1, descending=True).values.log())).sum(-1)
    for q in (loads, loads[:, order]):
        assert (losses.shape_divergence(shape, q.log()) - kl).abs().max() < TIGHT
        assert (losses.load_divergence(shape, q) - kl).abs().max() < TIGHT
    assert losses.shape_divergence(shape, shape[:, order].log()).abs().max() < TIGHT


def test_experts_of_equal_load_share_their_targets() -> None:
    shape = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]], dtype=torch.float64)
    load = torch.tensor([[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    value = losses.load_divergence(shape, load)
    (gradient,) = torch.autograd.grad(value.sum(), load)
    assert gradient[0].tolist() == pytest.approx([-0.25 / 0.25, -0.5 / 0.5, -0.25 / 0.25])
    expected = (shape[1] * shape[1].log()).sum() - 0.4 * math.log(1e-6)
    assert value[1].item() == pytest.approx(expected.item())


def test_warm_up_by_numbers() -> None:
    assert losses.ramp(0.1, 0.4) == pytest.approx(0.25)
    assert losses.ramp(0.1, 0.4, "cosine") == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert losses.ramp(0.4, 0.4) == losses.ramp(0.0, 0.0) == 1.0


@pytest.mark.parametrize("mode", ["topk_score", "top1_freq", "topk_freq", "mean_prob"])
def test_running_loads_are_those_that_the_loss_asks_for(mode: str) -> None:
    loss = loss_of({"aux": {"f_mode": mode}, "ema_decay": 0.9}, scope="ema")
    batch = batch_of(random_logits(3, 5), sparsifier=Sparsifier(2, 2))
    loss(batch, 1.0)
    loss.end_window()
    pbar, fbar = loss.statistics.point()
    assert pbar is not None
    assert fbar is not None
    assert (pbar - batch.pbar).abs().max() < TIGHT
    assert (fbar - batch.fbar(mode)).abs().max() < TIGHT


def test_statistics_are_kept_in_the_type_of_routing() -> None:
    for like, dtype in ((torch.zeros(()).half(), torch.float32), (torch.zeros(()).double(), torch.float64)):
        loss = RouterLosses(1, N, LossConfig(), like)
        assert loss.state()["statistics.means"].dtype == dtype


def test_terms_have_the_names_of_their_sections() -> None:
    sections = ("aux", "entropy", "mi", "cv2", "z")
    loss = loss_of({name: {"coef": 1.0} for name in sections})
    assert tuple(loss(batch_of(random_logits(2, 3)), 1.0)) == sections
