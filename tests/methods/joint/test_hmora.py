"""HMoRA: distributions of tokens and of tasks, mixed by depth, and the constrained Jensen-Shannon losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods import conformance, registry
from methods.agreements import agreed
from methods.base import Unsupported
from methods.hmora import GjsLosses, HmoraLossConfig
from methods.hmora_routing import HybridRouter, HybridRouterConfig, MixConfig, SoftKept, TaskEncoder, TaskSignal, depths
from methods.naming import VariantError
from methods.routing.context import RoutingContext
from methods.routing.router import Record
from methods.routing.statistics import RoutingBatch
from methods.tiny import TinySession, model_logits, tiny_batch, tiny_llama, tiny_model, window_gradient

N, WIDTH, TASK = 6, 16, 32
MIXED = {"mix.low": 0.0, "mix.high": 1.0}


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def router(depth: float, **mix: Any) -> HybridRouter:
    """Of random weights, in a training pass of four sequences."""
    signal, like = TaskSignal(), torch.zeros(1, dtype=torch.float64)
    signal.vectors = draw(4, TASK, seed=3)
    made = HybridRouter(
        N, WIDTH, TASK, HybridRouterConfig(), MixConfig(**mix), depth, signal, RoutingContext(training=True),
        name="site", seed=0, like=like,
    )  # fmt: skip
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            if parameter.dim():
                parameter.copy_(0.7 * draw(*parameter.shape, seed=seed))
    return made


def losses_of(made: HybridRouter, mask: Tensor | None, **config: Any) -> tuple[Tensor, dict[str, Any]]:
    """Mixed logits of random tokens `[4, 9]`, and the losses of that pass."""
    x = draw(4, 9, WIDTH, seed=5)
    logits = made(x, x)
    settings = HmoraLossConfig.model_validate({"stats_scope": "microbatch", **config})
    found = GjsLosses(1, N, settings, x, [made])
    record = Record(logits.unsqueeze(2), logits.softmax(-1).unsqueeze(2))
    return logits, found(RoutingBatch([record], mask), 1.0)


@pytest.mark.parametrize("overrides", [{}, MIXED])
def test_untrained_it_is_the_base_to_the_bit(installed: Any, shake: Any, logits: Any, overrides: Any) -> None:
    """B = 0 changes nothing, whatever routers and encoder say."""
    model = tiny_llama()
    base = logits(model)
    composed = installed("hmora", overrides, model=model)
    shake(composed, "routers", "encoder", std=0.5)
    assert torch.equal(logits(model), base)


def test_shallow_layers_lean_on_tokens_and_deep_ones_on_tasks() -> None:
    """sigmoid(-2) = 0.12 at the first layer to 0.88 at the last, a half in the middle; turned round below zero."""
    mix = MixConfig()
    shares = [1 / (1 + math.exp(-mix.logit(depth))) for depth in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert shares == sorted(shares)
    assert (shares[0], shares[2], shares[4]) == pytest.approx((0.1192, 0.5, 0.8808), abs=1e-4)
    assert [mix.parts(depth) for depth in (0.0, 0.25, 0.5, 0.75, 1.0)] == [
        (True, False), (True, True), (True, True), (True, True), (False, True)
    ]  # fmt: skip
    assert MixConfig(epsilon=-2.0).parts(0.0) == (False, True)
    assert MixConfig(shift=-9.0).parts(1.0) == (True, False)


def test_depth_is_counted_within_a_stack() -> None:
    model = tiny_model("t5")
    sites = ["encoder.block.0.layer.0.SelfAttention.q", "encoder.block.1.layer.0.SelfAttention.q",
             "decoder.block.1.layer.1.EncDecAttention.v", "lm_head"]  # fmt: skip
    assert list(depths(sites, model).values()) == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("depth", [0.0, 0.4, 1.0])
def test_weights_are_the_authors_arithmetic(depth: float, top: bool) -> None:
    """`TokenRouter.forward`: a mixture of two softmaxes, or one, and a softmax over the k largest; with gradients."""
    bound = agreed("hmora", "LiaoMengqi/HMoRA")
    made, x = router(depth), draw(4, 9, WIDTH, seed=5)
    ours = (SoftKept(2, 2) if top else SoftKept(None, None))(made(x, x), True)
    token = F.softmax(x @ made.weight.T + made.bias, dim=-1) if made.has_token else None
    vectors = made.signal.of(4)
    task = F.softmax(vectors @ made.task_weight.T + made.task_bias, dim=-1).unsqueeze(-2) if made.has_task else None
    if token is None:
        assert task is not None
        theirs = task.expand(4, 9, N)
    elif task is None:
        theirs = token
    else:
        alpha = torch.sigmoid(made.share)
        theirs = (1 - alpha) * token + alpha * task
    if top:
        values, indices = torch.topk(theirs, 2, dim=-1)
        least = torch.full_like(theirs, torch.finfo(theirs.dtype).min)
        theirs = torch.softmax(least.scatter(-1, indices, values), dim=-1)
    leaves, towards = list(made.parameters()), draw(*ours.shape, seed=9)
    one, two = (torch.autograd.grad((w * towards).sum(), leaves, allow_unused=True) for w in (ours, theirs))
    assert bound.output is not None
    assert bound.gradient is not None
    assert (ours - theirs).abs().max() < bound.output
    gaps = [(a - b).abs().max() for a, b in zip(one, two, strict=True) if a is not None and b is not None]
    assert gaps
    assert max(gaps) < bound.gradient


def their_divergence(p: Tensor, weights: Tensor, balance: float, certain: float) -> Tensor:
    """`divergence_loss`, for distributions `[m, N]` that count by their weights; its 1e-9 inside logarithms too."""
    largest = math.log(N)
    mean = (weights[:, None] * p).sum(0) / weights.sum()
    entropy_m = torch.clamp(-(mean * torch.log(mean + 1e-9)).sum(), max=balance * largest)
    entropy_p = torch.clamp(-(p * torch.log(p + 1e-9)).sum(-1), min=certain * largest)
    entropy_p = (weights * entropy_p).sum() / weights.sum()
    return torch.relu((balance - certain) * largest - (entropy_m - entropy_p)) / largest


@pytest.mark.parametrize(("balance", "certain"), [(0.98, 0.5), (1.0, 0.0), (0.6, 0.5), (0.98, 0.9)])
def test_losses_are_the_authors_arithmetic(balance: float, certain: float) -> None:
    bound = agreed("hmora", "LiaoMengqi/HMoRA", "loss.stats_scope=microbatch")
    made = router(0.4)
    mask = torch.ones(4, 9, dtype=torch.bool)
    mask[1, 6:], mask[2, :3] = False, False
    kind = {"coef": 1.0, "balance": balance, "certain": certain}
    _, ours = losses_of(made, mask, token=kind, task=kind)
    x = draw(4, 9, WIDTH, seed=5)
    token = F.softmax(x @ made.weight.T + made.bias, dim=-1)
    task = F.softmax(made.signal.of(4) @ made.task_weight.T + made.task_bias, dim=-1)
    # Sequences count by their tokens here, which with equal lengths is the authors' mean.
    theirs = {
        "token": their_divergence(token.flatten(0, 1), mask.flatten().double(), balance, certain),
        "task": their_divergence(task, mask.sum(1).double(), balance, certain),
    }
    leaves = {"token": [made.weight, made.bias], "task": [made.task_weight, made.task_bias]}
    assert bound.loss is not None
    assert bound.gradient is not None
    for name, value in theirs.items():
        assert (ours[name].value - value).abs() < bound.loss
        pairs = [torch.autograd.grad(one, leaves[name], retain_graph=True) for one in (ours[name].value, value)]
        assert max((a - b).abs().max().item() for a, b in zip(*pairs, strict=True)) < bound.gradient


def test_certain_and_even_is_free_and_the_rest_is_not() -> None:
    """No loss and no gradient where tokens are certain and experts even; all at one expert costs the balance alone,
    doubt everywhere the rest."""
    made = router(0.0)
    with torch.no_grad():
        made.bias.zero_()
        made.weight.zero_()[:, :N].copy_(30 * torch.eye(N))
    x = torch.eye(WIDTH, dtype=torch.float64)[torch.arange(36) % N].view(4, 9, WIDTH)
    config = HmoraLossConfig.model_validate({"stats_scope": "microbatch"})

    def value(tokens: Tensor) -> Tensor:
        logits = made(tokens, tokens)
        record = Record(logits.unsqueeze(2), logits.softmax(-1).unsqueeze(2))
        found: Tensor = GjsLosses(1, N, config, tokens, [made])(RoutingBatch([record], None), 1.0)["token"].value
        return found

    assert value(x).item() == 0
    assert not torch.autograd.grad(value(x), made.weight)[0].any()
    assert value(x[:1, :1]).item() == pytest.approx(0.98, abs=1e-6)
    assert value(0 * x).item() == pytest.approx(0.5)


def test_the_loss_does_not_depend_on_how_a_window_is_cut(installed: Any, shake: Any) -> None:
    """Under `accum`, also at sequences of unequal length, for routers of tokens, of tasks and of both."""
    found = []
    batch = tiny_batch()
    for window in ([batch], [batch[:3], batch[3:4], batch[4:]]):
        composed = installed("hmora", {**MIXED, "loss.stats_scope": "accum", "loss.token.coef": 1, "loss.task.coef": 1})
        shake(composed, "routers", "experts", "encoder", std=0.3)
        values = window_gradient(composed, window)
        assert values["token"] > 0
        assert values["task"] > 0
        found.append([p.grad for group in ("routers", "encoder") for p in composed.groups()[group].values()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seen", [True, False])
def test_a_prompt_decides_and_its_answer_does_not(installed: Any, shake: Any, seen: bool) -> None:
    """Deep layers are routed by the prompt: other answer tokens leave the task's weights; other prompts do not."""
    composed = installed("hmora")
    shake(composed, "encoder", "routers", std=0.3)
    ids = tiny_batch(1, length=12).input_ids.clamp(min=3)
    other = ids.clone()
    other[:, 7:] = (other[:, 7:] + 5) % 50 + 3
    if not seen:
        other[:, 0] = (other[:, 0] + 5) % 50 + 3
    composed.context.prompt_mask = torch.arange(12)[None] < 7
    vectors = []
    with torch.no_grad():
        for each in (ids, other):
            model_logits(composed.model, each)
            vectors.append(composed.signal.vectors)
    assert torch.equal(*vectors) == seen


@pytest.mark.parametrize("padded", ["left", "right"])
def test_the_encoder_sees_a_prompt_and_not_its_padding(padded: str) -> None:
    """Positions count down from its last token; another order of tokens (the control) is another task."""
    torch.manual_seed(0)
    encoder = TaskEncoder(32, layers=1, heads=4, dropout=0.0, std=torch.ones(()), seed=0).double()
    tokens = draw(1, 5, 32)
    noise = draw(1, 3, 32, seed=2)
    inside, outside = torch.ones(1, 5, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool)
    pair = ((noise, tokens), (outside, inside)) if padded == "left" else ((tokens, noise), (inside, outside))
    alone = encoder(tokens, inside)
    assert (encoder(torch.cat(pair[0], 1), torch.cat(pair[1], 1)) - alone).abs().max() < 1e-12
    assert (encoder(tokens.flip(1), inside) - alone).abs().max() > 1e-3


def test_encoder_and_both_kinds_of_routers_learn(resolved: Any, installed: Any) -> None:
    composed = installed("hmora", MIXED)
    before = composed.state()
    resolved("hmora", MIXED).fit(composed, TinySession(steps=4))
    moved = [name for name, value in composed.state().items() if not torch.equal(value, before[name])]
    for part in ("encoder.task", ".share", ".task_weight", "q_proj.weight"):
        assert any(name.endswith(part) for name in moved), part


def test_a_share_that_is_not_learned_is_a_constant(installed: Any) -> None:
    composed = installed("hmora", {**MIXED, "mix.learn": False})
    assert not any(name.endswith(".share") for name in composed.groups()["routers"])
    assert composed.stored() == {"routers": 8}


def test_without_task_routers_nothing_depends_on_prompts(installed: Any) -> None:
    """Tokens alone are routed: there is no encoder, and prefixes may be shared."""
    composed = installed("hmora", {"mix.shift": -9.0})
    assert "encoder" not in composed.groups()
    assert not composed.whole_prompts
    assert installed("hmora").whole_prompts


@pytest.mark.parametrize("training", [False, True])
def test_what_is_put_in_has_the_models_mode(installed: Any, training: bool) -> None:
    """Routers and encoder drop inputs in training and never in a model that evaluates."""
    model = tiny_llama(dtype=torch.float64).train(training)
    composed = installed("hmora", {**MIXED, "router.dropout": 0.5}, model=model)
    assert {module.training for module in composed.model.modules()} == {training}


def test_refusals(installed: Any) -> None:
    with pytest.raises(Unsupported, match="heads"):
        installed("hmora", {"encoder.heads": 5})
    with pytest.raises(VariantError, match="soft_kept"):
        registry.create("hmora", {"route.renorm": "none"})


def test_variants_conform() -> None:
    conformance.check("hmora", {**MIXED, "router.scope": "shared_qkv", "lora.dropout": 0.1, "encoder.layers": 2})
    conformance.text_does_not_depend_on_the_cache(conformance.Subject("hmora", MIXED, "t5"))
