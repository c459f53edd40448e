"""MoLA: numbers of experts that follow depth, top-2 routing per projection, one balance for each layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance, registry
from methods.agreements import agreed
from methods.base import Unsupported
from methods.mola import AllottedBalance, MolaLossConfig, allotted
from methods.naming import VariantError
from methods.routing.inject import layer_of
from methods.routing.router import Record
from methods.routing.sparsify import Sparsifier
from methods.routing.statistics import RoutingBatch
from methods.tiny import tiny_batch, tiny_llama, tiny_model, window_gradient


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("layers", "by_depth", "expected"),
    [
        (8, (2, 4, 6, 8), [2, 2, 4, 4, 6, 6, 8, 8]),
        (2, (2, 4, 6, 8), [2, 6]),
        (3, (1, 5), [1, 1, 5]),
        (2, (3,), [3, 3]),
    ],
)
def test_experts_of_a_layer_follow_its_depth(layers: int, by_depth: tuple[int, ...], expected: list[int]) -> None:
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(layers))
    assert [allotted(f"layers.{n}.q_proj", model, by_depth) for n in range(layers)] == expected
    assert allotted("lm_head", model, by_depth) == by_depth[-1]


def test_encoder_and_decoder_have_a_depth_each() -> None:
    model = tiny_model("t5")
    sites = [f"{side}.block.{n}.layer.0.SelfAttention.q" for side in ("encoder", "decoder") for n in (0, 1)]
    assert [allotted(site, model, (2, 4)) for site in sites] == [2, 4, 2, 4]


def test_layers_equal_a_loop(installed: Any, shake: Any, naive: Any, topk: Any, logits: Any) -> None:
    """Each projection's router over the experts of its layer alone; the two largest, over their sum."""
    composed = installed("mola", {"experts.by_depth": [2, 4]})
    shake(composed, "routers", "experts", std=0.3)
    routers = {
        name.removeprefix("routers.").removesuffix(".weight"): p.detach()
        for name, p in composed.groups()["routers"].items()
    }
    assert {layer_of(name): len(p) for name, p in routers.items()} == {"model.layers.0": 2, "model.layers.1": 4}
    experts = [composed.expert(name) for name in composed.experts]
    assert [len(expert.sites) for expert in experts] == [8, 8, 4, 4]

    def weigh(site: str, x: Tensor, _: list[Tensor]) -> Tensor:
        p = (x @ routers[site].T).softmax(-1)
        return torch.nn.functional.pad(topk(p, 2), (0, 4 - p.shape[-1]))

    assert (logits(composed.model) - logits(naive(experts, weigh))).abs().max() < 1e-9


def records(numbers: tuple[int, ...], total: int) -> list[Record]:
    """One router each, with logits that absent experts do not have."""
    found = []
    for seed, number in enumerate(numbers):
        logits = torch.full((3, 5, 1, total), -1e4, dtype=torch.float64)
        logits[..., :number] = 2 * draw(3, 5, 1, number, seed=seed)
        logits.requires_grad_()
        found.append(Record(logits, Sparsifier(2, 2)(logits, True)))
    return found


@pytest.mark.parametrize("pooled", [True, False])
def test_balance_is_the_authors_arithmetic(pooled: bool) -> None:
    """`load_balancing_loss_func`: all logits of a layer together, shares of picks times mean probabilities times the
    layer's experts, added up over layers."""
    bound = agreed("mola", "GCYZSL/MoLA")
    numbers, layers = (2, 2, 4, 4, 4), ("a", "a", "b", "b", "b")
    seen = records(numbers, 4)
    config = MolaLossConfig(stats_scope="microbatch", pooled=pooled, over_routers="sum")
    loss = AllottedBalance(5, 4, config, draw(1), numbers)
    loss.layers = layers
    term = loss(RoutingBatch(seen, None), 1.0)["aux"]
    theirs = torch.zeros((), dtype=torch.float64)
    of_layers = [[0, 1], [2, 3, 4]] if pooled else [[n] for n in range(5)]
    for members in of_layers:
        n = numbers[members[0]]
        together = torch.cat([seen[m].logits[..., 0, :n].flatten(0, 1) for m in members])
        p = together.softmax(-1)
        picks = torch.nn.functional.one_hot(p.topk(2, -1).indices.flatten(), n).sum(0).double()
        theirs = theirs + (picks / picks.sum() * p.mean(0)).sum() * n
    assert bound.loss is not None
    assert bound.gradient is not None
    assert (term.coefficient * term.value - 1e-3 * theirs).abs().item() < bound.loss
    leaves = [record.logits for record in seen]
    ours = torch.autograd.grad(term.coefficient * term.value, leaves)
    others = torch.autograd.grad(1e-3 * theirs, leaves)
    assert max((a - b).abs().max().item() for a, b in zip(ours, others, strict=True)) < bound.gradient
    assert term.value.item() >= 0.9


def test_balance_is_one_at_balance_whatever_the_number() -> None:
    """Uniform routers of 2 and of 4 experts have the same loss, so that deep layers do not weigh more."""
    numbers = (2, 4)
    loss = AllottedBalance(2, 4, MolaLossConfig(stats_scope="microbatch", pooled=False), draw(1), numbers)
    seen = []
    for number in numbers:
        # Tokens take turns, so that every expert is picked by one token in N.
        logits = torch.full((1, 4, 1, 4), -1e4, dtype=torch.float64)
        logits[..., :number] = 0
        w = torch.eye(number, dtype=torch.float64).repeat(4 // number, 1)
        seen.append(Record(logits, torch.nn.functional.pad(w, (0, 4 - number))[None, :, None]))
    assert loss(RoutingBatch(seen, None), 1.0)["aux"].value.item() == pytest.approx(1, abs=1e-12)


def test_absent_experts_have_no_weight_and_no_share(installed: Any, shake: Any) -> None:
    composed = installed("mola", {"experts.by_depth": [2, 4]})
    shake(composed, "routers", std=0.5)
    batch = tiny_batch()
    with composed.task("a", None), torch.no_grad():
        composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    report = composed.diagnostics()
    loads = dict(zip(report["modules"], report["per_module"]["load"], strict=True))
    for site, load in loads.items():
        assert sum(load) == pytest.approx(1)
        assert (load[2] == load[3] == 0) == ("layers.0" in site)


def test_gradients_reach_what_takes_part(installed: Any, shake: Any) -> None:
    """Experts and routers in every layer, with the balance on and off."""
    for overrides in ({}, {"loss.aux.coef": 0.0}):
        composed = installed("mola", {"experts.by_depth": [3, 4], **overrides})
        shake(composed, "experts", std=0.3)
        window_gradient(composed, [tiny_batch()])
        groups = composed.groups()
        for name, parameter in {**groups["routers"], **groups["experts"]}.items():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_refusals(resolved: Any) -> None:
    config = tiny_llama().config
    with pytest.raises(Unsupported, match="Top-4 routing needs more than 4 experts but 4 experts are"):
        resolved("mola", {"experts.by_depth": [2, 4], "route.train_k": 4}).check(config, ("a",))
    with pytest.raises(VariantError, match=r"router\.scope"):
        registry.create("mola", {"router.scope": "global"})
    with pytest.raises(VariantError, match=r"experts\.by_depth"):
        registry.create("mola", {"experts.by_depth": []})


def test_variant_conforms() -> None:
    conformance.check("mola", {"experts.by_depth": [4, 2], "router.scope": "per_layer", "loss.stats_scope": "accum"})
