"""Methods on state-space models: every injected projection counts, caches, refusals, counts, adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance, registry
from methods.architectures import architectures
from methods.base import Composed, Expert, SiteFactors, Unsupported
from methods.counting import Skeleton
from methods.experts import load_expert, save_expert
from methods.routing.context import RoutingContext
from methods.routing.mamba import PROJECTIONS
from methods.tiny import ARCHITECTURES, tiny_batch, tiny_experts, tiny_model

SITES = [f"backbone.layers.{layer}.mixer.{name}" for layer in range(2) for name in PROJECTIONS]
BLOCKS = [name for name in ("mixlora", "gmoe-graph", "loramoe", "llava-mole") if name in registry.names()]
CACHED = ("uniform", "mixer", "mole", "arrow", "phatgoose", "random")


def install(model: Any, name: str, overrides: dict[str, Any] | None = None, n: int = 4) -> Composed:
    experts = tiny_experts(model, "abcdef"[:n])
    return registry.create(name, overrides or {}).install(model, experts, seed=0)


def logits(model: Any) -> Tensor:
    batch = tiny_batch()
    with torch.no_grad():
        found: Tensor = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return found


@pytest.mark.parametrize("method", ["lora", "mixer", "svd"])
def test_every_projection_is_alive(kind: str, method: str) -> None:
    """B of one site alone is other than zero, and the logits are not the base's."""
    model = tiny_model(kind, dtype=torch.float64)
    expected = logits(model)
    pool = tiny_experts(model, "a" if method == "lora" else "abcd")
    assert sorted(pool[0].sites) == sorted(SITES)
    for site in [None, *SITES]:
        alone = [
            Expert(e.name, {p: f if p == site else SiteFactors(f.A, f.B * 0, f.scale) for p, f in e.sites.items()})
            for e in pool
        ]
        composed = registry.create(method).install(model, alone, seed=0)
        assert sorted(composed.sites) == sorted(SITES)
        found = logits(model)
        composed.uninstall()
        change = (found - expected).abs().max()
        assert change < 1e-5 if site is None else change > 1e-4, site
    assert torch.equal(logits(model), expected)


def test_a_merge_equals_its_expert_added_to_the_weights(kind: str) -> None:
    """The bias of dt_proj counts once, beside an update and in a folded weight."""
    model = tiny_model(kind, dtype=torch.float64)
    assert model.backbone.layers[0].mixer.dt_proj.bias.abs().max() > 0.1
    (expert,) = tiny_experts(model, "a")
    outcomes = []
    for name, overrides in (("lora", {}), ("svd", {"fold": True}), ("svd", {"fold": False})):
        composed = registry.create(name, overrides).install(model, [expert], seed=0)
        outcomes.append(logits(model))
        composed.uninstall()
    with torch.no_grad():
        for path, factors in expert.sites.items():
            model.get_submodule(path).weight += factors.scale * factors.B @ factors.A
    for found in outcomes:
        assert (found - logits(model)).abs().max() < 1e-5


def test_counts_of_falcon_mamba_7b() -> None:
    """Six experts of rank 64 at all four projections and their routers, through the methods' own checks."""
    shipped = architectures()["falcon-mamba-7b"]
    found = Skeleton.of(shipped, rank=64, pool=[f"e{n}" for n in range(6)])
    assert found.one_expert() == 203_554_816
    count = found.count(registry.create("mixer"))
    assert count.refusal is None
    assert count.trainable == {"routers": 7_962_624}
    assert count.stored == {"experts": 1_221_328_896}
    composed = registry.create("uniform").install(found.model, found.experts, seed=0)
    assert len(composed.sites) == 256
    composed.uninstall()


@pytest.mark.parametrize("name", BLOCKS)
def test_methods_for_feed_forward_blocks_are_refused(kind: str, name: str) -> None:
    with pytest.raises(Unsupported, match=rf"{name} .*gate_proj.* type {ARCHITECTURES[kind].model_type}"):
        registry.create(name, {"n_experts": 4}).check(ARCHITECTURES[kind].config(), ["a", "b", "c", "d"])


@pytest.mark.parametrize("name", [name for name in registry.names() if name not in BLOCKS])
def test_all_other_methods_are_checked_here(kind: str, name: str) -> None:
    assert kind in conformance.architectures(name)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("xlora", {"scope": "prompt_fixed"}),
        ("mixer", {"router.scope": "per_layer"}),
        ("mixer", {"router.scope": "global"}),
        ("mixer", {"loss.stats_scope": "accum"}),
        ("mole", {"gate.form": "input"}),
        ("svd", {"fold": False}),
    ],
    ids=str,
)
def test_variants_conform(kind: str, name: str, overrides: dict[str, Any]) -> None:
    conformance.check(name, overrides, kind)


def test_steps_of_generation_know_their_positions(kind: str) -> None:
    """A cache of states neither counts nor tells of left padding, and generation passes no mask after the prompt."""
    model = tiny_model(kind, dtype=torch.float64)
    composed = install(model, "mixer")
    context = composed.context
    assert isinstance(context, RoutingContext)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    ids = torch.full((2, 4), 5)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, use_cache=True)
        assert context.past_length == 0
        for step in range(2):
            model(input_ids=ids[:, :1], cache_params=out.cache_params, use_cache=True)
            assert context.past_length == 4 + step
            assert context.position_ids is not None
            assert context.position_ids.tolist() == [[2 + step], [4 + step]]
            assert context.token_mask is None
        model(input_ids=ids)
        assert context.past_length == 0
        composed.uninstall()
        out = model(input_ids=ids, use_cache=True)
        composed = install(model, "mixer")
        with pytest.raises(RuntimeError, match="filled without the method"):
            model(input_ids=ids[:, :1], cache_params=out.cache_params)
    composed.uninstall()
    assert not model.backbone._forward_pre_hooks
    assert not model.backbone._forward_hooks


@pytest.mark.parametrize("name", CACHED)
def test_cached_steps_equal_a_whole_pass(kind: str, name: str) -> None:
    """With padding on the left."""
    model = tiny_model(kind, dtype=torch.float64)
    composed = install(model, name)
    ids = tiny_batch(3, length=9).input_ids.clamp(min=3)
    mask = torch.ones_like(ids)
    mask[1, :3], mask[2, :5] = 0, 0
    with composed.task("a", "a"), torch.no_grad():
        whole = model.backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        out = model.backbone(input_ids=ids[:, :6], attention_mask=mask[:, :6], use_cache=True)
        parts = [out.last_hidden_state]
        for column in range(6, 9):
            out = model.backbone(input_ids=ids[:, column : column + 1], cache_params=out.cache_params, use_cache=True)
            parts.append(out.last_hidden_state)
    gap = (torch.cat(parts, 1) - whole)[mask.bool()].abs().max()
    assert gap < 2e-6  # norms are computed in float32


def test_own_adapters_load_in_plain_peft(kind: str, tmp_path: Path) -> None:
    """Where peft injects at all: it refuses out_proj, and the library bypasses its dt_proj."""
    from peft import PeftModel

    model = tiny_model(kind)
    outcomes: dict[str, tuple[Tensor, Tensor]] = {}
    for targets in (("in_proj", "x_proj"), ("dt_proj",)):
        (expert,) = tiny_experts(model, "a", targets=targets)
        save_expert(expert, tmp_path / targets[0], base_model="tiny", target_modules=targets)
        again = load_expert("a", tmp_path / targets[0])
        composed = registry.create("lora").install(model, [again], seed=0)
        ours = logits(model)
        composed.uninstall()
        wrapped = PeftModel.from_pretrained(tiny_model(kind), str(tmp_path / targets[0]))
        outcomes[targets[0]] = ours, logits(wrapped.eval())
    ours, theirs = outcomes["in_proj"]
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - logits(model)).abs().max() > 1e-2
    ours, theirs = outcomes["dt_proj"]
    assert torch.equal(theirs, logits(model))
    assert (ours - theirs).abs().max() > 1e-3


def test_adapters_on_out_proj_load_although_peft_refuses_them(kind: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = tiny_model(kind, dtype=torch.float64)
    (expert,) = tiny_experts(model, "a")
    save_expert(expert, tmp_path, base_model="tiny", target_modules=PROJECTIONS)
    again = load_expert("a", tmp_path)
    assert again.sites.keys() == expert.sites.keys()
    for path, factors in again.sites.items():
        assert torch.equal(factors.A, expert.sites[path].A)
        assert torch.equal(factors.B, expert.sites[path].B)
    with pytest.raises(ValueError, match="out_proj"):
        PeftModel.from_pretrained(model, str(tmp_path))


def test_adapters_made_by_peft_are_experts(kind: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=6, target_modules=["in_proj", "x_proj"], init_lora_weights=False)
    wrapped = get_peft_model(tiny_model(kind), config).eval()
    wrapped.save_pretrained(str(tmp_path))
    model = tiny_model(kind)
    composed = registry.create("lora").install(model, [load_expert("a", tmp_path)], seed=0)
    assert len(composed.sites) == 4
    assert (logits(model) - logits(wrapped)).abs().max() < 1e-4
