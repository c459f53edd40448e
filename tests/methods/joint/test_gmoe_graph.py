"""GMoE with its graph router: the network over token and experts, and the losses on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance
from methods.base import Unsupported
from methods.gmoe_graph import GraphConfig, GraphRouter, propagation
from methods.tiny import TinySession, tiny_llama

NAMES = ("a", "b", "c", "d")


def router(n: int = 5, d: int = 12, **config: Any) -> GraphRouter:
    settings = GraphConfig(**{"width": 8, "density": 0.4, **config})
    return GraphRouter(n, d, settings, name="r", seed=0, like=torch.zeros(1, dtype=torch.float64))


def tokens(d: int = 12) -> Tensor:
    return torch.randn(2, 3, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("projections", "convolutions"), [("silu", "relu"), ("linear", "relu"), ("silu", "silu")])
def test_equals_a_graph_built_by_hand(projections: str, convolutions: str) -> None:
    """Node by node: weighted sums over neighbours, each divided by the root of both degrees."""
    graph = router(projections=projections, convolutions=convolutions)

    def silu(x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))

    project = silu if projections == "silu" else torch.Tensor.clone
    convolve = silu if convolutions == "silu" else torch.Tensor.relu
    x = tokens()[0, 0]
    with torch.no_grad():
        nodes = [project(graph.token @ x), *(project(graph.expert @ feature) for feature in graph.features)]
        weight = (graph.links != 0).double() + torch.eye(6, dtype=torch.float64)
        degree = weight.sum(-1)
        for theta in graph.layers:
            sent = [theta @ node for node in nodes]
            parts = [[weight[i, j] / (degree[i] * degree[j]).sqrt() * sent[j] for j in range(6)] for i in range(6)]
            nodes = [convolve(torch.stack(part).sum(0)) for part in parts]
        expected = torch.stack([graph.score[0] @ node for node in nodes[1:]])
        assert (graph(tokens(), tokens())[0, 0] - expected).abs().max() < 1e-10


def test_renumbering_experts_renumbers_their_logits() -> None:
    """The network is equivariant under permutations of the experts' nodes."""
    graph, order = router(), torch.tensor([3, 0, 4, 1, 2])
    before = graph(tokens(), tokens()).detach()
    graph.features = graph.features[order]
    graph.links = propagation(graph.features, 0.4, 2.0)
    after = graph(tokens(), tokens()).detach()
    assert (after - before[..., order]).abs().max() < 1e-10
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize(("density", "pairs"), [(0.0, 0), (0.1, 2), (0.4, 6), (1.0, 15)])
def test_links(density: float, pairs: int) -> None:
    """The token is linked to all, experts to the share of pairs asked for; rows of a full graph are means."""
    links = propagation(torch.randn(6, 9, generator=torch.Generator().manual_seed(0)), density, 1.0)
    assert torch.equal(links, links.T)
    assert int((links[1:, 1:] != 0).triu(1).sum()) == pairs
    assert bool((links[0] > 0).all())
    if density == 1.0:
        assert (links - 1 / 7).abs().max() < 1e-6


def test_alike_experts_are_linked_first() -> None:
    features = torch.eye(4)
    features[3] = features[1] + 0.01
    links = propagation(features, 1 / 6, 2.0)
    assert links[2, 4] > 0
    assert int((links[1:, 1:] != 0).triu(1).sum()) == 1


@pytest.mark.parametrize("self_loop", [1.0, 2.0])
def test_linked_experts_can_be_told_apart(self_loop: float) -> None:
    """In a full graph all experts tie for every token under A + I (the control), and none under A + 2 I."""
    logits = router(density=1.0, self_loop=self_loop)(tokens(), tokens()).detach()
    spread = logits.sort(-1).values.diff(dim=-1)
    assert spread.max() < 1e-12 if self_loop == 1 else spread.min() > 1e-6


def test_weights_depend_on_the_token() -> None:
    graph = router()
    first, second = graph(tokens(), tokens()).detach().softmax(-1)[0, :2]
    assert (first - second).abs().max() > 1e-3
    unlinked = graph(tokens() * 0, tokens()).detach()
    assert (unlinked - unlinked[0, 0]).abs().max() < 1e-12


@pytest.mark.parametrize(("width", "expected"), [(128, 1_081_472), (256, 2_228_480)])
def test_parameters_of_a_router(width: int, expected: int) -> None:
    """Per block at width 4096; with the loss's two scalars and 32 layers 34,607,168 and 71,311,424."""
    with torch.device("meta"):
        graph = GraphRouter(6, 4096, GraphConfig(width=width), name="r", seed=0, like=torch.zeros(1))
    count = sum(p.numel() for p in graph.parameters())
    assert count == expected
    assert 32 * (count + 2) == {128: 34_607_168, 256: 71_311_424}[width]


def test_trains_router_experts_and_the_losses_own_parameters(resolved: Any, installed: Any) -> None:
    overrides = {"router.width": 8, "loss.lr": 1e-3}
    composed, session, method = installed("gmoe-graph", overrides), TinySession(), resolved("gmoe-graph", overrides)
    method.fit(composed, session)
    assert session.trained == {"routers", "experts", "attention", "loss"}
    assert session.log[-1].keys() == {"task", "poisson", "normal"}
    assert method.phase().lr["loss"] == 1e-3
    assert {name.rpartition(".")[2] for name in composed.groups()["routers"]} == {"token", "expert", "score", "0", "1"}
    with composed.task("a", None), torch.no_grad():
        composed.model(input_ids=torch.arange(8)[None] + 3)
    report = composed.diagnostics()
    assert report is not None
    assert report["modules"] == ["model.layers.0.mlp", "model.layers.1.mlp"]
    assert report["logit_shift"] > 0


def test_untrained_it_is_the_base(installed: Any, logits: Any) -> None:
    model = tiny_llama()
    base = logits(model)
    installed("gmoe-graph", {"router.width": 8, "lora.targets": []}, model=model)
    assert torch.equal(logits(model), base)


def test_variants_conform() -> None:
    conformance.check("gmoe-graph", {"router.width": 8, "router.layers": 1, "router.density": 0.5, "n_experts": 3})
    conformance.check("gmoe-graph", {"router.width": 8, "loss.released": True, "route.renorm": "none"})


def test_refused_without_feed_forward_blocks(resolved: Any) -> None:
    from transformers import MambaConfig

    with pytest.raises(Unsupported, match="gmoe-graph puts its experts into feed-forward blocks"):
        resolved("gmoe-graph").check(MambaConfig(num_hidden_layers=1), NAMES)
