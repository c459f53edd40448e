"""Composed models as a whole: what must hold for the text they read and write."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Composed, Expert, Method, SiteFactors
from methods.routing.composed import RoutedComposed
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient
from results.schema import RoutingDiagnostics

METHODS = ("uniform", "random", "mixer", "mole")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {}),
    ("uniform", {}),
    ("random", {}),
    ("mixer", {"router.init_std": 0.5}),
    ("mixer", {"router.init_std": 0.5, "router.scope": "per_layer", "route.dense": True}),
    ("mole", {"gate.init_std": 0.5}),
]
IDS = [registry.display(name, overrides) for name, overrides in VARIANTS]
VARIED = pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=IDS)


def compose(name: str, overrides: dict[str, Any] | None = None, *, dtype: torch.dtype = torch.float64) -> Composed:
    model = tiny_llama(dtype=dtype)
    experts = tiny_experts(model)
    return registry.create(name, overrides).install(model, experts[:1] if name == "lora" else experts, seed=0)


@VARIED
def test_prefix_consistency(name: str, overrides: dict[str, Any]) -> None:
    """Logits at t equal those of cached decoding, and do not change with the tokens after t."""
    composed = compose(name, overrides)
    model: Any = composed.model
    ids = tiny_batch(4).input_ids.clamp(min=3)
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        changed = torch.cat([ids[:, :8], ids[:, 8:].flip(0, 1)], 1)
        assert not torch.equal(changed, ids)
        assert (model(input_ids=changed).logits[:, :8] - whole[:, :8]).abs().max() < 1e-12
        first = model(input_ids=ids[:, :5], use_cache=True)
        cache = first.past_key_values
        steps = [model(input_ids=ids[:, n : n + 1], past_key_values=cache, use_cache=True).logits for n in range(5, 12)]
        # Rotary angles are float32 in the library, whatever the model's type.
        assert (torch.cat([first.logits, *steps], 1) - whole).abs().max() < 1e-6


@VARIED
def test_batch_invariance(name: str, overrides: dict[str, Any]) -> None:
    """A sequence alone and left-padded in a batch has equal logits (float32)."""
    composed = compose(name, overrides, dtype=torch.float32)
    model: Any = composed.model
    ids = tiny_batch(4).input_ids.clamp(min=3)
    lengths = [12, 9, 6, 3]
    left = torch.zeros_like(ids)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        left[row, 12 - length :] = ids[row, :length]
        mask[row, 12 - length :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        together = model(input_ids=left, attention_mask=mask).logits
        placed = model(input_ids=left, attention_mask=mask, position_ids=positions).logits
        for row, length in enumerate(lengths):
            alone = model(input_ids=ids[row : row + 1, :length]).logits[0]
            assert (together[row, 12 - length :] - alone).abs().max() < 1e-5
            assert (placed[row, 12 - length :] - alone).abs().max() < 1e-5


@pytest.mark.parametrize("name", METHODS)
def test_every_site_is_alive(name: str) -> None:
    """Perturbing B of any one injected module changes the output; the number of sites is as expected."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model)
    batch = tiny_batch()

    def run(pool: list[Expert]) -> Tensor:
        composed = registry.create(name).install(model, pool, seed=0)
        assert len(composed.sites) == 8
        with torch.no_grad():
            out: Tensor = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        composed.uninstall()
        return out

    plain = run(experts)
    for site in experts[0].sites:
        perturbed = []
        for expert in experts:
            factors = expert.sites[site]
            changed = SiteFactors(factors.A, factors.B + 0.1, factors.scale)
            perturbed.append(Expert(expert.name, {**expert.sites, site: changed}))
        assert (run(perturbed) - plain).abs().max() > 1e-6, site


@pytest.mark.parametrize("name", ["mixer", "mole"])
def test_only_declared_groups_change(name: str) -> None:
    """After an optimiser step nothing but the trained group has changed a bit."""
    model = tiny_llama()
    experts = tiny_experts(model)
    copies = {(e.name, site): (f.A.clone(), f.B.clone()) for e in experts for site, f in e.sites.items()}
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    method = registry.create(name)
    composed = method.install(model, experts, seed=0)
    before = {key: p.detach().clone() for group in composed.groups().values() for key, p in group.items()}
    session = TinySession(steps=1)
    # The first step has zero balance gradient and full cross-entropy: every router moves.
    method.fit(composed, session)
    for key, parameter in ((k, p) for group in composed.groups().values() for k, p in group.items()):
        assert not torch.equal(parameter, before[key]), key
    composed.uninstall()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, base[key]), key
    for expert in experts:
        for site, factors in expert.sites.items():
            assert torch.equal(factors.A, copies[expert.name, site][0])
            assert torch.equal(factors.B, copies[expert.name, site][1])


@pytest.mark.parametrize("name", ["mixer", "mole"])
def test_same_seed_same_training(name: str, tmp_path: Path, logits: Any) -> None:
    """The same seed gives bit-identical losses and parameters; a checkpoint restores all of it."""
    logs, states = [], []
    for _ in range(2):
        composed, method, session = compose(name), registry.create(name), TinySession(steps=3)
        method.fit(composed, session)
        logs.append(session.log)
        states.append(composed.state())
    assert logs[0] == logs[1]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    composed.save(tmp_path)
    again = compose(name)
    assert not torch.equal(logits(again.model), logits(composed.model))
    again.load(tmp_path)
    assert torch.equal(logits(again.model), logits(composed.model))
    assert all(torch.equal(value, states[0][key]) for key, value in again.state().items())


def test_seeds_and_names_decide_initial_values() -> None:
    """Another seed moves every router; another pool member or loss moves none of the remaining numbers."""
    one = compose("mixer").state()
    other = (
        registry.create("mixer").install(tiny_llama(dtype=torch.float64), tiny_experts(tiny_llama()), seed=1).state()
    )
    weights = [key for key in one if key.startswith("routers.")]
    assert not any(torch.equal(one[key], other[key]) for key in weights)
    signed = compose("mixer", {"loss.entropy.sign": -1, "loss.mi.coef": 1.0}).state()
    assert all(torch.equal(one[key], signed[key]) for key in weights)


def test_random_weights_are_flat_dirichlet_and_seeded() -> None:
    """Kept weights come from Dirichlet(1): means 1/N, variance (N-1)/(N^2 (N+1)); sites and seeds are independent."""
    model = tiny_llama()
    experts = tiny_experts(model)
    draws = []
    for seed in (0, 1):
        method = registry.create("random", {"route.dense": True})
        composed = method.install(model, experts, seed=seed)
        assert isinstance(composed, RoutedComposed)
        composed.context.training = True
        ids = torch.randint(3, 64, (32, 100), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            model(input_ids=ids)
        draws.append([router.record.w for router in composed.routers if router.record is not None])
        composed.uninstall()
    w = draws[0][0][:, :, 0].reshape(-1, 4)
    assert (w.mean(0) - 0.25).abs().max() < 0.015
    assert (w.var(0) - 3 / 80).abs().max() < 0.003
    others = [draws[0][0][:, :, 1], draws[0][1][:, :, 0], draws[0][2][:, :, 0], draws[1][0][:, :, 0]]
    for other in others:
        correlation = torch.corrcoef(torch.stack([w[:, 0], other.reshape(-1, 4)[:, 0]]))[0, 1]
        assert correlation.abs() < 0.06
    neighbours = torch.corrcoef(torch.stack([w[:-1, 0], w[1:, 0]]))[0, 1]
    assert neighbours.abs() < 0.06


@pytest.mark.parametrize("name", ["random", "mixer", "mole"])
@pytest.mark.parametrize("own", ["b", None])
def test_diagnostics_have_the_fields_of_a_record(name: str, own: str | None) -> None:
    """Exactly the schema's fields, computed from the tokens that are not padding."""
    init = {"mixer": {"router.init_std": 0.5}, "mole": {"gate.init_std": 0.5}, "random": {}}[name]
    method, composed = registry.create(name, init), compose(name, init)
    assert composed.diagnostics() is None
    if method.trains():
        method.fit(composed, TinySession())
    batch = tiny_batch()
    with composed.task("any", own), torch.no_grad():
        for rows in (slice(0, 3), slice(3, 8)):  # two passes are one task
            composed.model(input_ids=batch.input_ids[rows], attention_mask=batch.attention_mask[rows])
    raw = composed.diagnostics()
    assert raw is not None
    report = RoutingDiagnostics.model_validate(raw)
    assert report.experts == ["a", "b", "c", "d"]
    assert report.modules == [f"model.layers.{n}.self_attn.{p}_proj" for n in range(2) for p in "qkvo"]
    assert set(report.per_module) == set(RoutingDiagnostics.model_fields) - {"experts", "modules", "per_module"}

    assert isinstance(composed, RoutedComposed)
    composed.context.training = True
    with torch.no_grad():
        composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    mask = batch.attention_mask.bool()
    p = torch.cat([r.record.logits.softmax(-1)[mask] for r in composed.routers if r.record is not None], 1)
    w = torch.cat([r.record.w[mask] for r in composed.routers if r.record is not None], 1)
    near = lambda value: pytest.approx(float(value), abs=1e-9)  # noqa: E731
    assert report.load == pytest.approx(w.mean((0, 1)).tolist(), abs=1e-9)
    assert report.entropy == near(-(p * p.log()).sum(-1).mean() / math.log(4))
    assert report.variance == near((p - p.mean(0)).square().sum(-1).mean())
    assert report.kept_mass == near((p * (w > 0)).sum(-1).mean())
    assert report.own_expert_mass == (None if own is None else near(p[..., 1].mean()))
    assert len(report.per_module["load"]) == 8
    if name == "random":
        assert report.logit_shift == 0
    else:
        assert report.logit_shift > 1e-3
    assert report.logit_std_initial > 0.05

    with composed.task("another", own):
        pass
    assert composed.diagnostics() is None


def test_diagnostics_do_not_touch_outputs(logits: Any) -> None:
    for name in ("random", "mixer", "mole"):
        composed = compose(name)
        plain = logits(composed.model)
        with composed.task("any", "a"):
            assert torch.equal(logits(composed.model), plain)


def test_static_methods_have_no_diagnostics(logits: Any) -> None:
    composed = compose("uniform")
    with composed.task("any", "a"):
        logits(composed.model)
    assert composed.diagnostics() is None


@pytest.mark.parametrize("name", ["lora", *METHODS])
def test_uninstalling_restores_the_base(name: str, logits: Any) -> None:
    """Logits to the bit, the very same modules, their gradient flags, and no hooks left."""
    model = tiny_llama()
    model.model.norm.weight.requires_grad_(False)
    flags = {key: p.requires_grad for key, p in model.named_parameters()}
    modules, expected = dict(model.named_modules()), logits(model)
    experts = tiny_experts(model)
    composed = registry.create(name).install(model, experts[:1] if name == "lora" else experts, seed=0)
    assert not torch.equal(logits(model), expected)
    assert not any(p.requires_grad for key, p in model.named_parameters() if key in flags)
    composed.uninstall()
    composed.uninstall()
    assert torch.equal(logits(model), expected)
    assert dict(model.named_modules()) == modules
    assert {key: p.requires_grad for key, p in model.named_parameters()} == flags
    assert not model.model._forward_pre_hooks


def test_methods_can_follow_each_other(logits: Any) -> None:
    """Installing one method after another on one model gives what a fresh model gives."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model)
    for name in METHODS:
        composed = registry.create(name).install(model, experts, seed=0)
        assert torch.equal(logits(model), logits(compose(name).model))
        composed.uninstall()


@pytest.mark.parametrize("kind", ["bart", "pegasus"])
def test_unsupported_architectures_are_refused(kind: str) -> None:
    from transformers import AutoConfig

    from methods.base import Unsupported

    method: Method = registry.create("mixer")
    with pytest.raises(Unsupported, match=f"type {kind} are not supported"):
        method.check(AutoConfig.for_model(kind), ["a", "b", "c", "d"])


def test_context_hears_the_pass() -> None:
    """The hook takes the mask's last columns under a cache, positions without padding, and a given mask once."""
    composed = compose("uniform")
    model: Any = composed.model
    context = composed.context
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    ids = torch.full((2, 4), 5)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, use_cache=True)
        assert context.past_length == 0
        assert torch.equal(context.token_mask, mask.bool())
        assert context.position_ids is not None
        assert context.position_ids.tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
        longer = torch.cat([mask, torch.tensor([[1], [0]])], 1)
        model(input_ids=ids[:, :1], attention_mask=longer, past_key_values=out.past_key_values, use_cache=True)
        assert context.past_length == 4
        assert context.token_mask is not None
        assert context.token_mask.tolist() == [[True], [False]]
        assert context.position_ids.tolist() == [[2], [3]]
        context.given_mask = torch.zeros(2, 4, dtype=torch.bool)
        model.model(inputs_embeds=model.get_input_embeddings()(ids))
        assert context.input_ids is None
        assert not context.token_mask.any()
        model.model(ids)
        assert context.token_mask is None
        assert context.position_ids.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("name", ["mixer", "mole"])
@pytest.mark.parametrize("overrides", [{}, {"loss.stats_scope": "microbatch"}], ids=str)
def test_gradient_checkpointing_changes_nothing(name: str, overrides: dict[str, Any]) -> None:
    """Layers that run again in the backward pass give the same losses and gradients."""
    outcomes = []
    for checkpoint in (False, True):
        composed = compose(name, overrides)
        model: Any = composed.model
        if checkpoint:
            model.activation_checkpointing_enable({"use_reentrant": False})
        model.train()
        composed.context.progress = 1.0
        values = window_gradient(composed, [tiny_batch()])
        outcomes.append((values, [p.grad for p in composed.groups()["routers"].values()]))
    assert outcomes[0][0] == outcomes[1][0]
    for plain, again in zip(outcomes[0][1], outcomes[1][1], strict=True):
        assert plain is not None
        assert again is not None
        assert (plain - again).abs().max() < 1e-12
