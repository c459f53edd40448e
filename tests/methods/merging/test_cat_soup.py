"""CAT soup: linear in its scalars, with `uniform` and single experts as special cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.agreements import agreed
from methods.base import Expert, TrainingPhase
from methods.cat_soup import Soup
from methods.experts import load_expert, save_expert
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama


def install(experts: list[Expert] | None = None, **overrides: Any) -> Soup:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, "abcd") if experts is None else experts
    composed = registry.create("cat-soup", overrides).install(model, experts, seed=0)
    assert isinstance(composed, Soup)
    return composed


def set_scalars(composed: Soup, values: dict[str, Tensor]) -> None:
    composed.load_state({f"scalars.{site}": value for site, value in values.items()})


def random_scalars(composed: Soup, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {site: torch.randn(len(composed.experts), generator=draw, dtype=torch.float64) for site in composed.sites}


def test_it_starts_as_uniform(logits: Callable[..., Tensor]) -> None:
    experts = tiny_experts(tiny_llama(dtype=torch.float64), "abcd")
    uniform = registry.create("uniform").install(tiny_llama(dtype=torch.float64), experts, seed=0)
    assert torch.allclose(logits(install().model), logits(uniform.model), atol=1e-12)


def test_released_scalars_pass_a_softmax() -> None:
    """The update of a site is `sum_n softmax(alpha)_n s_n B_n A_n`, trained and folded; alpha is drawn from N(0, 1)."""
    agreement = agreed("cat-soup", "LoRA-Soups", "softmax=true,init=normal")
    composed = install(softmax=True, init="normal")
    experts = tiny_experts(tiny_llama(dtype=torch.float64), "abcd")
    drawn = torch.cat([alpha.detach() for alpha in composed.groups()["scalars"].values()])
    assert 0.5 < drawn.std() < 1.5
    assert len(set(drawn.tolist())) == len(drawn)
    assert drawn.mean().abs() < 0.5
    merged = composed.merged("soup")
    for path, layer in composed.sites.items():
        alpha = composed.groups()["scalars"][f"scalars.{path}"]
        weight = (alpha - alpha.max()).exp() / (alpha - alpha.max()).exp().sum()
        expected = sum(
            w * e.sites[path].scale * (e.sites[path].B @ e.sites[path].A) for w, e in zip(weight, experts, strict=True)
        )
        x = torch.eye(layer.in_features, dtype=torch.float64)[None]  # type: ignore[arg-type]
        trained = layer(x)[0].T - layer.weight  # type: ignore[operator]
        with torch.no_grad():
            folded = layer(x)[0].T - layer.weight  # type: ignore[operator]
        for found in (trained, folded, merged.sites[path].B @ merged.sites[path].A):
            assert (found - expected).abs().max() < agreement.output
        goal = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        ours, theirs = (torch.autograd.grad((value * goal).sum(), alpha)[0] for value in (trained, expected))
        assert (ours - theirs).abs().max() < agreement.gradient


@pytest.mark.parametrize("softmax", [False, True])
def test_scalars_start_at_the_mean_or_at_random(softmax: bool) -> None:
    starts = [install(softmax=softmax, init=init).groups()["scalars"] for init in ("mean", "normal", "normal")]
    mean = torch.full((4,), 0.25, dtype=torch.float64)
    for name, alpha in starts[0].items():
        assert torch.allclose(alpha.softmax(-1) if softmax else alpha, mean)
        assert not torch.allclose(starts[1][name], alpha)
        assert torch.equal(starts[1][name], starts[2][name])


def test_one_hot_scalars_are_one_expert(logits: Callable[..., Tensor]) -> None:
    composed = install()
    one_hot = torch.tensor([0, 0, 1.0, 0], dtype=torch.float64)
    set_scalars(composed, dict.fromkeys(composed.sites, one_hot))
    expert = tiny_experts(tiny_llama(dtype=torch.float64), "abcd")[2]
    alone = registry.create("lora").install(tiny_llama(dtype=torch.float64), [expert], seed=0)
    assert torch.allclose(logits(composed.model), logits(alone.model), atol=1e-10)


def test_the_update_is_linear_in_the_scalars() -> None:
    composed = install()
    one, two = random_scalars(composed, 1), random_scalars(composed, 2)

    def updates(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        set_scalars(composed, scalars)
        outputs = {}
        for site, layer in composed.sites.items():
            x = torch.eye(layer.in_features, dtype=torch.float64)[None]  # type: ignore[arg-type]
            with torch.no_grad():
                outputs[site] = layer(x) - layer.base(x)  # type: ignore[operator]
            composed._hook.clear[0].clear()
        return outputs

    mixed = updates({site: 2 * one[site] - 3 * two[site] for site in one})
    first, second = updates(one), updates(two)
    for site in mixed:
        assert torch.allclose(mixed[site], 2 * first[site] - 3 * second[site], atol=1e-10)


def test_training_and_inference_compute_the_same(logits: Callable[..., Tensor], naive: Callable[..., Any]) -> None:
    composed = install()
    scalars = random_scalars(composed)
    set_scalars(composed, scalars)
    batch = tiny_batch()
    with_graph = composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert torch.allclose(with_graph.detach(), logits(composed.model), atol=1e-10)
    experts = tiny_experts(tiny_llama(dtype=torch.float64), "abcd")
    loop = naive(experts, lambda site, x, deltas: scalars[site].expand(*x.shape[:2], -1))
    assert torch.allclose(logits(composed.model), logits(loop), atol=1e-10)


def test_folded_factors_follow_the_scalars(logits: Callable[..., Tensor]) -> None:
    composed = install()
    before = logits(composed.model)
    with torch.no_grad():
        next(iter(composed.groups()["scalars"].values())).add_(0.5)
    assert not torch.allclose(logits(composed.model), before, atol=1e-3)


def test_unequal_ranks_and_missing_sites(logits: Callable[..., Tensor], naive: Callable[..., Any]) -> None:
    model = tiny_llama(dtype=torch.float64)
    a = tiny_experts(model, "a")[0]
    b = tiny_experts(model, "b", rank=2, targets=["q_proj", "o_proj"], scale=0.5)[0]
    composed = install([a, b])
    scalars = random_scalars(composed)
    set_scalars(composed, scalars)
    loop = naive([a, b], lambda site, x, deltas: scalars[site].expand(*x.shape[:2], -1))
    assert torch.allclose(logits(composed.model), logits(loop), atol=1e-10)


def test_only_scalars_are_trained_and_nothing_decays(monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[TrainingPhase] = []
    session = TinySession()
    train = session.train
    monkeypatch.setattr(session, "train", lambda c, phase: phases.append(phase) or train(c, phase))
    composed = install()
    assert {name: len(group) for name, group in composed.groups().items()} == {"scalars": 8}
    registry.create("cat-soup").fit(composed, session)
    (phase,) = phases
    assert (phase.data, phase.groups, phase.weight_decay, phase.lr) == ("routing", ("scalars",), 0, {"scalars": 0.01})
    moved = torch.stack([p.detach() for p in composed.groups()["scalars"].values()])
    assert not torch.allclose(moved, torch.full_like(moved, 0.25), atol=1e-3)
    registry.create("cat-soup", {"lr": None}).fit(composed, session)
    assert phases[1].lr == {}


def test_the_soup_is_an_ordinary_adapter(tmp_path: Any, logits: Callable[..., Tensor]) -> None:
    composed = install()
    set_scalars(composed, random_scalars(composed))
    save_expert(composed.merged("soup"), tmp_path, base_model="tiny")
    alone = registry.create("lora").install(tiny_llama(dtype=torch.float64), [load_expert("soup", tmp_path)], seed=0)
    assert torch.allclose(logits(alone.model), logits(composed.model), atol=1e-9)
