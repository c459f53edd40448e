"""Where routed layers go in a T5, that all of them are live, and which tokens each of them reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods import registry
from methods.architectures import architectures
from methods.base import Expert, SiteFactors, Unsupported
from methods.counting import Skeleton
from methods.experts import linear_sites
from methods.routing.inject import input_groups
from methods.routing.linear import RoutedLinear
from methods.routing.sides import reads_encoder
from methods.tiny import tiny_experts

from .conftest import ALL, POOL, QV, SUPPORTED, make_pair, make_t5, put, run

SELF = "SelfAttention"
CROSS = "EncDecAttention"


def test_flan_t5_large_is_counted() -> None:
    skeleton = Skeleton.of(architectures()["flan-t5-large"], rank=16, pool="abcde")
    sites = skeleton.experts[0].sites
    assert len(sites) == 144
    for part, count in ((f"encoder.*{SELF}", 48), (f"decoder.*{SELF}", 48), (CROSS, 48)):
        stack, _, module = part.rpartition("*")
        assert sum(site.startswith(stack) and module in site for site in sites) == count
    assert skeleton.one_expert() == 4_718_592
    counted = skeleton.count(registry.create("mixer"))
    assert (counted.refusal, counted.trainable) == (None, {"routers": 737_280})
    assert counted.stored == {"experts": 5 * 4_718_592}


def test_cross_attention_is_never_one_group() -> None:
    sites = list(linear_sites(make_t5(), (*ALL, "wi_0", "wi_1", "wo")))
    groups = {tuple(site.rpartition(".")[2] for site in group) for group in input_groups(sites)}
    assert groups == {("q", "k", "v"), ("o",), ("q",), ("k", "v"), ("wi_0", "wi_1"), ("wo",)}
    for group in input_groups(sites):
        assert len({reads_encoder(site) for site in group}) == 1
        if CROSS in group[0]:
            assert len(group) < 3


def test_which_sites_read_the_encoder() -> None:
    sites = list(linear_sites(make_t5(), (*ALL, "wi_0")))
    for site in sites:
        cross = f"{CROSS}.k" in site or f"{CROSS}.v" in site
        assert reads_encoder(site) == (site.startswith("encoder.") or cross)
    assert sum(map(reads_encoder, sites)) == 2 * 5 + 2 * 2


@pytest.mark.parametrize("kind", ["flan", "t5"])
def test_every_site_is_live(kind: str) -> None:
    """B of one site alone changes the logits, at every site name and in every module."""
    model, pair = make_t5(kind), make_pair()
    leaves = (*ALL, "wi_0", "wi_1", "wo") if kind == "flan" else (*ALL, "wi", "wo")
    base = run(model, pair)
    real = pair.decoder_mask.bool()
    sites = linear_sites(model, leaves)
    assert len(sites) == 2 * (4 + 8) + 2 * 2 * (3 if kind == "flan" else 2)
    for path, linear in sites.items():
        A = torch.randn(4, linear.in_features, dtype=torch.float64)
        factors = SiteFactors(A, torch.randn(linear.out_features, 4, dtype=torch.float64), 0.5)
        composed = registry.create("uniform").install(model, [Expert("a", {path: factors})], seed=0)
        assert list(composed.sites) == [path]
        assert ((run(model, pair) - base)[real].abs() > 1e-6).any(), path
        composed.uninstall()
        assert torch.equal(run(model, pair), base)


@pytest.mark.parametrize("scope", ["per_projection", "shared_qkv", "per_layer", "global"])
@pytest.mark.parametrize("targets", [QV, ALL])
def test_fused_equals_plain(scope: str, targets: tuple[str, ...]) -> None:
    pair = make_pair()
    overrides = {"router.scope": scope}
    plain = put("mixer", overrides, targets=targets, fuse=False)
    fused = put("mixer", overrides, targets=targets)
    difference = run(plain.model, pair) - run(fused.model, pair)
    assert difference[pair.decoder_mask.bool()].abs().max() < 1e-12
    routers: Any = fused
    sides = {name: router.encoder for router in routers.routers for name in router.names}
    assert sides == {name: reads_encoder(name) for name in sides}
    if scope == "per_layer":
        # One router for each encoder layer, and one for either sequence that a decoder layer reads.
        assert len(sides) == 2 + 2 * 2


def test_uniform_is_the_mean_of_the_updates() -> None:
    """Against weights to which the mean update has been added by hand."""
    pair, model = make_pair(), make_t5()
    experts = tiny_experts(model, POOL, targets=ALL)
    for path, linear in linear_sites(model, ALL).items():
        own = [expert.sites[path] for expert in experts]
        with torch.no_grad():
            linear.weight += torch.stack([f.scale * f.B @ f.A for f in own]).mean(0)
    routed = put("uniform", targets=ALL)
    assert (run(model, pair) - run(routed.model, pair)).abs().max() < 1e-12


def test_methods_without_a_place_are_refused() -> None:
    assert set(registry.names()) - set(SUPPORTED) == {"mixlora", "gmoe-graph", "loramoe", "llava-mole"}
    with pytest.raises(Unsupported, match="feed-forward blocks"):
        put("gmoe-graph")
    with pytest.raises(Unsupported, match="feed-forward blocks"):
        put("mixlora")
    with pytest.raises(Unsupported, match=r"set lora\.targets"):
        put("loramoe")
    feed_forward = put("loramoe", {"lora.targets": ["wi_0", "wi_1", "wo"]})
    assert len(feed_forward.sites) == 12
    with pytest.raises(Unsupported, match=r"balance\.coef"):
        put("loramoe", {"lora.targets": ["wo"], "balance.coef": 0.1, "balance.types": ["a"]})


@pytest.mark.parametrize("tokens", ["answer_only", "prompt_only"])
@pytest.mark.parametrize("name", ["mixer", "mole", "gmoe", "aesl", "ds-moe"])
def test_statistics_over_one_side_are_refused(name: str, tokens: str) -> None:
    with pytest.raises(Unsupported, match="either the prompt or the answer"):
        put(name, {"loss.stats_tokens": tokens})


def test_other_encoder_decoders_are_refused() -> None:
    from transformers import BartConfig

    with pytest.raises(Unsupported, match="type bart are not supported"):
        registry.create("mixer").check(BartConfig(), POOL)


def test_sites_are_put_back() -> None:
    model = make_t5()
    modules = dict(model.named_modules())
    for name in SUPPORTED:
        composed = put(name)
        model = composed.model
        composed.uninstall()
        assert not any(isinstance(module, RoutedLinear) for module in model.modules()), name
        assert not [path for path, m in model.named_modules() if m._forward_pre_hooks or m._forward_hooks], name
        assert dict(model.named_modules()).keys() == modules.keys(), name
