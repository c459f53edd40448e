"""MoLE's gates: the closed forms against outputs that are really formed, and what the paper says of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods import registry
from methods.base import Expert, SiteFactors, Unsupported
from methods.mole import Mole
from methods.routing.composed import RoutedComposed
from methods.routing.losses import negative_log_product
from methods.tiny import tiny_batch, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d", "e")
FORMS = ("blockdiag", "full", "input", "bottleneck")


def install(model: Any, experts: list[Expert], overrides: dict[str, Any]) -> RoutedComposed:
    method = registry.create("mole", {"gate.init_std": 0.5, **overrides})
    composed = method.install(model, experts, seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def weigh_mole(composed: RoutedComposed, experts: list[Expert], form: str, norm: str) -> Callable[..., Tensor]:
    parameters = composed.groups()["routers"]

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        weight = parameters[f"routers.{path}.weight"]
        tau = parameters[f"routers.{path}.log_tau"].exp()
        if norm == "ln":
            z = [F.layer_norm(delta, delta.shape[-1:], eps=1e-5) for delta in deltas]
        else:
            length = (torch.cat(deltas, -1).square().sum(-1, keepdim=True) + 1e-5).sqrt()
            z = [delta / length for delta in deltas]
        if form == "full":
            eps = torch.cat(z, -1) @ weight.T
        elif form == "blockdiag":
            eps = torch.stack([(part * row).sum(-1) for part, row in zip(z, weight, strict=True)], -1)
        elif form == "input":
            eps = x @ weight.T
        else:
            shrunk = [expert.sites[path].scale * (x @ expert.sites[path].A.T) for expert in experts]
            eps = torch.cat(shrunk, -1) @ weight.T
        return (eps / tau).softmax(-1)

    return weigh


@pytest.mark.parametrize("norm", ["ln", "l2"])
@pytest.mark.parametrize("form", FORMS)
def test_closed_forms_equal_formed_outputs(form: str, norm: str, naive: Any, logits: Any) -> None:
    """Gates that never form the experts' outputs equal gates that do, values and gradients."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    composed = install(model, experts, {"gate.form": form, "gate.norm": norm, "gate.tau": 0.7})
    routers = composed.groups()["routers"]
    slow = naive(experts, weigh_mole(composed, experts, form, norm))
    batch = tiny_batch()
    outcomes = []
    for which in (model, slow):
        out = which(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        outcomes.append((out, torch.autograd.grad(out.square().mean(), list(routers.values()), allow_unused=True)))
    assert (logits(model) - outcomes[1][0]).abs().max() < 1e-9
    assert (outcomes[0][0] - outcomes[1][0]).abs().max() < 1e-9
    for name, ours, expected in zip(routers, outcomes[0][1], outcomes[1][1], strict=True):
        assert (ours - expected).abs().max() < 1e-9, name


def test_blockdiag_is_full_with_a_masked_weight(logits: Any) -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    block = install(model, experts, {})
    expected, state = logits(model), block.state()
    block.uninstall()
    full = install(model, experts, {"gate.form": "full"})
    with torch.no_grad():
        for name, parameter in full.groups()["routers"].items():
            if name.endswith("weight"):
                wide = parameter.unflatten(-1, (len(NAMES), -1))
                wide.copy_(torch.eye(len(NAMES)).double().unsqueeze(-1) * state[name].unsqueeze(1))
    assert (logits(model) - expected).abs().max() < 1e-10


@pytest.mark.parametrize("form", FORMS)
def test_zero_gates_are_uniform(form: str, logits: Any) -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    registry.create("uniform").install(model, experts, seed=0).uninstall()
    uniform = registry.create("uniform").install(model, experts, seed=0)
    expected = logits(model)
    uniform.uninstall()
    install(model, experts, {"gate.form": form, "gate.init_std": 0.0})
    assert (logits(model) - expected).abs().max() < 1e-10


def test_balance_is_least_at_uniform() -> None:
    """L_bal is N ln N at uniform q and strictly larger elsewhere; the layer's term has that value there."""
    for n in (2, 5, 6):
        uniform = torch.full((n,), 1 / n, dtype=torch.float64)
        assert negative_log_product(uniform).item() == pytest.approx(n * math.log(n))
        for seed in range(20):
            draw = torch.Generator().manual_seed(seed)
            q = torch.randn(n, dtype=torch.float64, generator=draw).softmax(-1)
            assert negative_log_product(q) > n * math.log(n)
    model = tiny_llama(dtype=torch.float64)
    overrides = {"gate.init_std": 0.0, "loss.stats_scope": "microbatch"}
    composed = install(model, tiny_experts(model, NAMES), overrides)
    composed.context.training = True
    batch = tiny_batch()
    model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    term = composed.losses()["balance"]
    assert term.coefficient == 0.5
    assert term.value.item() == pytest.approx(5 * math.log(5))


@pytest.mark.parametrize("per_gate", [False, True])
def test_balance_over_gates(per_gate: bool) -> None:
    """The mean over all gates lets layers cancel; per gate it does not, so it is larger (Jensen)."""
    model = tiny_llama(dtype=torch.float64)
    overrides = {"loss.per_gate": per_gate, "loss.stats_scope": "microbatch"}
    composed = install(model, tiny_experts(model, NAMES), overrides)
    composed.context.training = True
    batch = tiny_batch()
    model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    mask = batch.attention_mask.bool()
    q = torch.cat([r.record.logits.softmax(-1)[mask].mean(0) for r in composed.routers if r.record is not None])
    assert q.shape == (8, 5)
    expected = -q.log().sum(-1).mean() if per_gate else -q.mean(0).log().sum()
    assert composed.losses()["balance"].value.item() == pytest.approx(expected.item(), abs=1e-12)


def scaled(experts: list[Expert], factor: float) -> list[Expert]:
    first = experts[0]
    sites = {path: SiteFactors(f.A, f.B, f.scale * factor) for path, f in first.sites.items()}
    return [Expert(first.name, sites), *experts[1:]]


def first_gate(experts: list[Expert], overrides: dict[str, Any]) -> Tensor:
    """Weights of the first projection's gate, whose input no expert has touched."""
    model = tiny_llama(dtype=torch.float64)
    composed = install(model, experts, overrides)
    composed.context.training = True
    batch = tiny_batch()
    model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    record = composed.routers[0].record
    assert record is not None
    return record.w[:, :, 0]


def test_layer_norm_ignores_the_size_of_an_update() -> None:
    """With LN, scaling one expert's update by c > 0 leaves the gate (up to eps); with l2 it does not."""
    experts = tiny_experts(tiny_llama(dtype=torch.float64), NAMES)
    for factor in (0.5, 3.0):
        before, after = first_gate(experts, {}), first_gate(scaled(experts, factor), {})
        assert (before - after).abs().max() < 1e-3
    before, after = (first_gate(e, {"gate.norm": "l2"}) for e in (experts, scaled(experts, 3.0)))
    assert (before - after).abs().max() > 1e-2


def test_cold_gates_choose_one_expert() -> None:
    """tau -> 0 gives the argmax expert."""
    experts = tiny_experts(tiny_llama(dtype=torch.float64), NAMES)
    warm, cold = first_gate(experts, {}), first_gate(experts, {"gate.tau": 1e-6})
    assert torch.equal(warm.argmax(-1), cold.argmax(-1))
    assert (cold.max(-1).values > 1 - 1e-9).float().mean() > 0.99


def test_masked_experts_are_left_out(logits: Any) -> None:
    """The flexible mode: without some experts at inference, the others' weights renormalised; training sees all."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    composed = install(model, experts, {"masked": ["b", "e"]})
    with composed.task("any", None):
        logits(model)
    report = composed.diagnostics()
    assert report is not None
    assert [load > 0 for load in report["load"]] == [True, False, True, True, False]
    assert sum(report["load"]) == pytest.approx(1)
    composed.context.training = True
    logits(model)
    assert composed.routers[0].record is not None
    assert composed.routers[0].record.w.min() > 0
    with pytest.raises(Unsupported, match="'x' is not in the pool"):
        registry.create("mole", {"masked": ["x"]}).check(model.config, NAMES)
    with pytest.raises(Unsupported, match="leave at least one"):
        registry.create("mole", {"masked": list(NAMES)}).check(model.config, NAMES)


def test_prompt_mean_freezes_the_prompts_weights() -> None:
    """One weight per sequence, from its prompt alone, the same for every later token; declared as not cacheable."""
    model = tiny_llama(dtype=torch.float64)
    composed = install(model, tiny_experts(model, NAMES), {"gate.scope": "prompt_mean"})
    assert not composed.kv_cache
    assert registry.create("mole").install(tiny_llama(), tiny_experts(tiny_llama()), seed=0).kv_cache
    ids = tiny_batch(2).input_ids.clamp(min=3)
    composed.context.prompt_mask = torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        other = model(input_ids=torch.cat([ids[:, :7], ids[:, 7:].flip(1)], 1), use_cache=False).logits
        assert (whole[:, :7] - other[:, :7]).abs().max() < 1e-12
        composed.context.prompt_mask = None
        prompt = model(input_ids=ids[:, :7], use_cache=True)
        cache = prompt.past_key_values
        steps = [model(input_ids=ids[:, n : n + 1], past_key_values=cache, use_cache=True).logits for n in range(7, 12)]
        assert (torch.cat([prompt.logits, *steps], 1) - whole).abs().max() < 1e-6
        with pytest.raises(RuntimeError, match="belong to the sequences of the prompt's pass"):
            model(input_ids=ids[:1, :1], past_key_values=model(input_ids=ids[:, :2], use_cache=True).past_key_values)


def test_prompt_mean_trains_on_prompts() -> None:
    """In training the prompt is what is not answer, so answers do not move the weights."""
    model = tiny_llama(dtype=torch.float64)
    composed = install(model, tiny_experts(model, NAMES), {"gate.scope": "prompt_mean"})
    batch = tiny_batch()
    context = composed.context
    context.training, context.label_mask = True, batch.labels != -100
    weights = []
    for ids in (batch.input_ids, torch.where(batch.labels != -100, 5, batch.input_ids)):
        model(input_ids=ids, attention_mask=batch.attention_mask)
        assert composed.routers[-1].record is not None
        weights.append(composed.routers[-1].record.w.detach())
    assert (weights[0] - weights[1]).abs().max() < 1e-12
    assert (weights[0] - weights[0][:, :1]).abs().max() == 0


@pytest.mark.parametrize(
    ("form", "count"),
    [("blockdiag", 5 * 192 + 8), ("full", 25 * 192 + 8), ("input", 5 * 256 + 8), ("bottleneck", 800 + 8)],
)
def test_parameter_counts(form: str, count: int) -> None:
    """Two layers of widths 32/16/16/32 with five experts of rank 4, and one temperature per gate."""
    model = tiny_llama()
    method = registry.create("mole", {"gate.form": form})
    assert isinstance(method, Mole)
    groups = method.install(model, tiny_experts(model, NAMES), seed=0).groups()
    assert groups.keys() == {"routers"}
    assert sum(parameter.numel() for parameter in groups["routers"].values()) == count
