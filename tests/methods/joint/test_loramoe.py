"""LoRAMoE: dense mixtures of LoRAs, and the localized balance of two task types."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance
from methods.agreements import agreed
from methods.base import Unsupported
from methods.loramoe import LocalizedBalance, LocalizedConfig
from methods.routing import losses
from methods.routing.context import RoutingContext
from methods.routing.router import Record
from methods.routing.statistics import RoutingBatch
from methods.tiny import TinySession, tiny_batch, tiny_llama, window_gradient

NAMES = ("a", "b", "c", "d")
TYPED = {"balance.coef": 0.5, "balance.delta": 0.3, "balance.types": ["a", "b"]}


def loss_of(logits: Tensor, domain: Tensor, delta: float, mask: Tensor | None = None) -> Tensor:
    """Localized balance of one router's logits `[b, t, N]`; domains 0 and 1 are of the first type."""
    context = RoutingContext(domain=domain)
    config = LocalizedConfig(coef=0.5, delta=delta, types=("a", "b"))
    loss = LocalizedBalance(1, logits.shape[-1], config, logits, first=(0, 1), context=context)
    record = Record(logits.unsqueeze(-2), logits.softmax(-1).unsqueeze(-2))
    (term,) = loss(RoutingBatch([record], mask), 1.0).values()
    assert term.coefficient == 0.5
    return term.value


def random_logits(b: int = 4, t: int = 6, n: int = 4) -> Tensor:
    return torch.randn(b, t, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_without_delta_it_is_plain_cv2() -> None:
    """delta = 0: the squared coefficient of variation of each sequence's mean weights; types do not matter."""
    logits = random_logits()
    expected = losses.squared_cv(logits.softmax(-1).mean(1)).mean()
    for domain in (torch.tensor([0, 1, 2, 3]), torch.tensor([2, 2, 0, 0])):
        assert (loss_of(logits, domain, 0.0) - expected).abs() < 1e-12
    assert (loss_of(logits, torch.tensor([0, 1, 2, 3]), 0.3) - expected).abs() > 1e-3


def test_equal_lengths_give_the_papers_statistic() -> None:
    """For delta = 0 and sequences of one length it is the cv^2 over all sequences and experts at once."""
    logits = random_logits()
    loads = logits.softmax(-1).sum(1).flatten()
    whole = loads.var(correction=0) / loads.mean().square()
    assert (loss_of(logits, torch.tensor([0, 1, 2, 3]), 0.0) - whole).abs() < 1e-12


@pytest.mark.parametrize("routers", [1, 3])
def test_released_balance_is_the_authors_arithmetic(routers: int) -> None:
    """Ablustrund/LoRAMoE: for every linear layer the sums of weights over a sequence's tokens, times 1 + delta for
    experts of its type and 1 - delta for others; unbiased variance over squared mean of all of them; summed over
    layers. Padding counts, and the micro-batches of a window count alike."""
    b, t, n, delta = 5, 6, 4, 0.3
    logits = random_logits(b, t * routers, n).unflatten(1, (t, routers)).requires_grad_()
    domain = torch.tensor([0, 1, 2, 3, 0])
    config = LocalizedConfig(coef=0.5, delta=delta, types=("a", "b"), released=True)
    context = RoutingContext(domain=domain)
    loss = LocalizedBalance(routers, n, config, logits, first=(0, 1), context=context)
    mask = torch.zeros(b, t, dtype=torch.bool)
    (term,) = loss(RoutingBatch([Record(logits, logits.softmax(-1))], mask), 1.0).values()
    expected = torch.zeros((), dtype=torch.float64)
    for layer in range(routers):
        loads = []
        for row in range(b):
            for expert in range(n):
                alike = (domain[row] < 2) == (expert < n // 2)
                load = logits[row, :, layer].softmax(-1)[:, expert].sum()
                loads.append(load * (1 + delta if alike else 1 - delta))
        mean = sum(loads) / len(loads)
        variance = sum((load - mean) ** 2 for load in loads) / (len(loads) - 1)
        expected = expected + variance / (mean**2 + 1e-10)
    agreement = agreed("loramoe", "Ablustrund/LoRAMoE", "balance.released=true")
    assert term.value.item() == pytest.approx(expected.item(), abs=agreement.loss)
    assert not term.per_token
    ours, theirs = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (term.value, expected))
    assert (ours - theirs).abs().max() < agreement.gradient
    context.domain = None
    with pytest.raises(RuntimeError, match="needs the domain"):
        loss(RoutingBatch([Record(logits, logits.softmax(-1))], None), 1.0)


def test_scaling_all_loads_changes_nothing() -> None:
    loads = torch.rand(5, 6, dtype=torch.float64)
    for scale in (1e-3, 7.0):
        assert (losses.squared_cv(loads * scale) - losses.squared_cv(loads)).abs().max() < 1e-12
    assert (losses.squared_cv(loads + 1) - losses.squared_cv(loads)).abs().min() > 1e-3


def test_importance_of_matching_groups() -> None:
    context = RoutingContext()
    config = LocalizedConfig(coef=1.0, delta=0.25, types=("a",))
    loss = LocalizedBalance(1, 4, config, torch.zeros(1), first=(0,), context=context)
    expected = [[1.25, 1.25, 0.75, 0.75], [0.75, 0.75, 1.25, 1.25]]
    assert loss.importance(torch.tensor([0, 3])).tolist() == expected


@pytest.mark.parametrize("delta", [0.3, -0.3])
def test_which_way_the_literal_weighting_pulls(delta: float) -> None:
    """Its minimum has equal I_n q_n: a positive delta leaves matching experts (1 - delta)/2 of the mass, the lesser."""
    logits = random_logits(2, 3).requires_grad_()
    domain = torch.tensor([0, 3])
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss_of(logits, domain, delta).backward()
        optimizer.step()
    mean = logits.detach().softmax(-1).mean(1)
    matching = torch.stack([mean[0, :2].sum(), mean[1, 2:].sum()])
    assert loss_of(logits, domain, delta).detach() < 1e-6
    assert (matching - (1 - delta) / 2).abs().max() < 1e-3


def test_padding_does_not_count() -> None:
    logits, domain = random_logits(), torch.tensor([0, 1, 2, 3])
    mask = torch.arange(6) < torch.tensor([6, 4, 3, 5])[:, None]
    changed = torch.where(mask[..., None], logits, logits.flip(-1) * 3)
    assert torch.equal(loss_of(logits, domain, 0.2, mask), loss_of(changed, domain, 0.2, mask))
    assert not torch.equal(loss_of(logits, domain, 0.2), loss_of(changed, domain, 0.2))


def test_cutting_a_window_changes_no_gradient(installed: Any, shake: Any) -> None:
    gradients = []
    for size in (8, 2):
        composed = installed("loramoe", TYPED)
        shake(composed, "experts")
        for group in composed.groups().values():
            for parameter in group.values():
                parameter.requires_grad_(True)
        batch = tiny_batch()
        values = window_gradient(composed, [batch[start : start + size] for start in range(0, 8, size)])
        assert values["localized"] > 0
        gradients.append({name: p.grad for group in composed.groups().values() for name, p in group.items()})
    for name, gradient in gradients[0].items():
        assert (gradient - gradients[1][name]).abs().max() < 1e-12, name


def test_equals_a_loop_over_experts(installed: Any, shake: Any, logits: Any, naive: Any) -> None:
    """On all three linear layers of each block, each with its own router."""
    model = tiny_llama(dtype=torch.float64)
    base = logits(model)
    composed = installed("loramoe", model=model)
    assert torch.equal(logits(model), base)
    shake(composed, "routers", "experts")
    rows = composed.groups()["routers"]
    assert len(composed.sites) == 6

    def weigh(site: str, x: Tensor, _: list[Tensor]) -> Tensor:
        return (x @ rows[f"routers.{site}.weight"].detach().T).softmax(-1)

    experts = [composed.expert(name) for name in composed.experts]
    assert (logits(naive(experts, weigh)) - logits(model)).abs().max() < 1e-10


def test_on_attention_it_has_the_mixers_parameters(installed: Any) -> None:
    composed = installed("loramoe", {"lora.targets": ["q_proj", "k_proj", "v_proj", "o_proj"]})
    sizes = {name: sum(p.numel() for p in group.values()) for name, group in composed.groups().items()}
    assert sizes == {"routers": 8 * 4 * 32, "experts": 2 * 4 * 4 * (64 + 48 + 48 + 64)}
    assert composed.stats_scope is None
    assert composed.losses() == {}


def test_types_are_those_of_the_comparison(resolved: Any, installed: Any) -> None:
    """Names become positions in the pool's order, by which training sequences are marked."""
    composed = installed("loramoe", {**TYPED, "balance.types": ["b", "d"]})
    assert composed.loss.first == (1, 3)
    assert resolved("loramoe").config.domains == NAMES
    session = TinySession(steps=1)
    resolved("loramoe", TYPED).fit(composed, session)
    assert session.log[0]["localized"] > 0


def test_refusals(resolved: Any) -> None:
    from transformers import GPT2Config

    llama = tiny_llama().config
    with pytest.raises(Unsupported, match="names 'x', which is not in the pool"):
        resolved("loramoe", {**TYPED, "balance.types": ["x"]}).check(llama, NAMES)
    for types in ([], list(NAMES)):
        with pytest.raises(Unsupported, match="needs tasks of two types"):
            resolved("loramoe", {**TYPED, "balance.types": types}).check(llama, NAMES)
    with pytest.raises(Unsupported, match="two groups of experts"):
        resolved("loramoe", {**TYPED, "n_experts": 1}).check(llama, NAMES)
    with pytest.raises(Unsupported, match=r"which models of type gpt2 do not have: set lora\.targets"):
        resolved("loramoe").check(GPT2Config(n_layer=1), NAMES)


def test_variants_conform() -> None:
    conformance.check("loramoe", {**TYPED, "router.scope": "per_layer", "lora.targets": ["q_proj", "o_proj"]})
