"""Blocks are taken for what they compute, not for what their parts are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import registry
from methods.agreements import agreed
from methods.base import Expert, SiteFactors, Unsupported
from methods.routing.blocks import install_blocks
from methods.routing.build import install_static
from methods.routing.config import RouterConfig
from methods.routing.context import RoutingContext
from methods.routing.ffn import feedforward_blocks, form_of
from methods.routing.probe import starting_as_base
from methods.routing.providers import LinearRouter
from methods.routing.sparsify import Sparsifier
from methods.tiny import tiny_comparison, tiny_experts, tiny_llama

METHODS = ("mixlora", "gmoe-graph")
NAMES = ("a", "b", "c", "d")
ATTENTION = {"phi": ("q_proj", "dense"), "phi3": ("qkv_proj", "o_proj")}


def logits(model: Any) -> Tensor:
    ids = torch.arange(3, 27).view(3, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return found


def resolved(name: str, kind: str) -> Any:
    targets = ATTENTION.get(kind, ("q_proj", "o_proj"))
    return registry.create(name).within(tiny_comparison(NAMES, targets=targets))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["llama", "phi", "phi3", "glm", "gemma3_text", "gemma3", "falcon_h1", "qwen2_moe"])
def test_untrained_is_the_base_to_the_bit(kind: str, name: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(kind)
    method, base = resolved(name, kind), logits(model)
    method.check(model.config, NAMES)
    composed = method.install(model, [], seed=0)
    assert torch.equal(logits(model), base)
    with torch.no_grad():
        for parameter in composed.groups()["experts"].values():
            parameter.add_(0.1)
    assert not torch.equal(logits(model), base)
    composed.uninstall()
    assert torch.equal(logits(model), base)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["gemma3n_text", "bitnet"])
def test_blocks_that_compute_something_else_are_refused(kind: str, name: str, model_of: Callable[[str], Any]) -> None:
    """Gemma 3n cuts small activations off, BitNet has a norm before the last projection."""
    model = model_of(kind)
    method, base = resolved(name, kind), logits(model)
    with pytest.raises(
        Unsupported, match=rf"blocks of models of type {kind} .* but do not compute what blocks of these"
    ):
        method.check(model.config, NAMES)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(Unsupported, match=r"block model\.layers\.0\.mlp .* but does not compute"):
        method.install(model, [], seed=0)
    assert torch.equal(logits(model), base)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_a_block_of_the_right_parts_is_tried_out() -> None:
    """Each way in which a forward can differ from its parts' names, in one layer of a Llama."""

    class Doubled(nn.Module):
        def __init__(self, of: Any, how: str) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj, self.act_fn = (
                of.gate_proj,
                of.up_proj,
                of.down_proj,
                of.act_fn,
            )
            self.how = how

        def forward(self, x: Tensor, *more: Tensor) -> Tensor:
            gate, up = self.gate_proj(x), self.up_proj(x)
            if self.how == "swapped":
                gate, up = up, gate
            if self.how == "clamped":
                gate = gate.clamp(max=0.3)
            out: Tensor = self.down_proj(self.act_fn(gate) * up)
            return out * 2 if self.how == "scaled" else out

    for how in ("same", "swapped", "clamped", "scaled"):
        model = tiny_llama(dtype=torch.float64)
        model.model.layers[1].mlp = Doubled(model.model.layers[1].mlp, how)
        if how == "same":
            resolved("mixlora", "llama").install(model, [], seed=0)
            continue
        with pytest.raises(Unsupported, match=r"block model\.layers\.1\.mlp \(Doubled\)"):
            resolved("mixlora", "llama").install(model, [], seed=0)


def test_a_model_that_goes_past_its_blocks_is_refused() -> None:
    """The block is right, and the model uses it in another way: an untrained method must leave the logits alone."""
    model = tiny_llama(dtype=torch.float64)
    before = logits(model)

    def install() -> Any:
        composed = resolved("mixlora", "llama").install(model, [], seed=0)
        with torch.no_grad():
            for parameter in composed.groups()["experts"].values():
                parameter.add_(0.1)
        return composed

    with pytest.raises(Unsupported, match="it without training changes the logits of LlamaForCausalLM by"):
        starting_as_base(model, "it", install)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("kind", ["phi", "phi3"])
def test_experts_on_every_form_are_whole_blocks(kind: str, model_of: Callable[[str], Any]) -> None:
    """One expert alone is a LoRA on the block's layers; several at equal weight give the mean of their outputs."""
    model = model_of(kind)
    path, base = next(iter(feedforward_blocks(model).items()))
    form = form_of(base)
    assert form is not None
    pool = tiny_experts(model, ("a", "b"), targets=form.parts)

    def compose(experts: list[Expert]) -> Any:
        def provider(name: str, linear: nn.Linear) -> LinearRouter:
            config = RouterConfig(init_std=0.0)
            return LinearRouter(len(experts), linear.in_features, config, name=name, seed=0, like=linear.weight)

        return install_blocks(model, experts, None, RoutingContext(), provider, Sparsifier(None, None))

    single = install_static(model, pool[:1], lambda site: [1.0])
    expected = logits(model)
    single.uninstall()
    composed = compose(pool[:1])
    assert (logits(model) - expected).abs().max() < 1e-10
    composed.uninstall()

    x = torch.randn(2, 3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def project(part: str, x: Tensor, own: SiteFactors) -> Tensor:
        out: Tensor = getattr(base, part)(x) + own.scale * (x @ own.A.T @ own.B.T)
        return out

    outputs = []
    for expert in pool:
        own = {part: expert.sites[f"{path}.{part}"] for part in form.parts}
        if kind == "phi":
            inner = base.activation_fn(project("fc1", x, own["fc1"]))
        else:
            gate, up = project("gate_up_proj", x, own["gate_up_proj"]).chunk(2, -1)
            inner = base.activation_fn(gate) * up
        outputs.append(project(form.outer, inner, own[form.outer]))
    compose(pool)
    with torch.no_grad():
        mixed = model.get_submodule(path)(x)
    assert (mixed - sum(outputs) / 2).abs().max() < 1e-12


@pytest.mark.parametrize(("kind", "function"), [("phi", "gelu_new"), ("phi3", "silu")])
@pytest.mark.parametrize("k", [1, 3])
def test_agrees_with_the_authors_blocks(kind: str, function: str, k: int, model_of: Callable[[str], Any]) -> None:
    """The released package's forms for Phi and Phi-3 on equal weights give the same output and gradient."""
    config_module, layer, linear = (
        pytest.importorskip(f"mixlora.{name}") for name in ("config", "model", "lora_linear")
    )
    model = model_of(kind).float()
    path, base = next(iter(feedforward_blocks(model).items()))
    form = form_of(base)
    assert form is not None
    experts = tiny_experts(model, NAMES, targets=form.parts)
    settings = {"base_model_name_or_path": "", "task_type": "CAUSAL_LM", "peft_type": "MIXLORA", "act_fn": function}
    settings |= {"r": 4, "lora_alpha": 8, "lora_dropout": 0.05, "target_modules": list(form.parts)}
    settings |= {"routing_strategy": "mixlora", "num_experts": len(NAMES), "top_k": k}
    config = config_module.MixLoraConfig.from_config(settings)
    config.model_type_, config.dtype_ = kind, torch.float32
    theirs = layer.MixLoraSparseMoe(base, config)
    for part in form.parts:
        for n, expert in enumerate(experts):
            f = expert.sites[f"{path}.{part}"]
            adapter = linear.LoraLinear(getattr(base, part), config, (f.A, f.B)).eval()
            theirs.experts_[f"experts.{n}.{part}"] = adapter

    def provider(name: str, like: nn.Linear) -> LinearRouter:
        router = RouterConfig(init_std=0.5)
        return LinearRouter(len(NAMES), like.in_features, router, name=name, seed=0, like=like.weight)

    ours = install_blocks(model, experts, None, RoutingContext(), provider, Sparsifier(k, k))
    theirs.gate_ = ours.blocks[0].provider.weight.detach()
    draw, agreement = torch.Generator().manual_seed(1), agreed("mixlora", "mixlora")
    x, goal = torch.randn(3, 7, 32, generator=draw, requires_grad=True), torch.randn(3, 7, 32, generator=draw)
    expected, found = theirs.forward(x.clone()), ours.blocks[0](x)
    assert (found - expected).abs().max() < agreement.output
    assert (expected - base(x)).abs().max() > 0.05
    gradients = [torch.autograd.grad((output * goal).sum(), x)[0] for output in (found, expected)]
    assert (gradients[0] - gradients[1]).abs().max() < agreement.gradient


def test_layers_of_a_whole_decoder_layer_are_no_block(model_of: Callable[[str], Any]) -> None:
    """OPT's layer holds fc1, fc2 and an activation, and attention beside them."""
    model = model_of("opt")
    assert feedforward_blocks(model) == {}
    with pytest.raises(Unsupported, match="models of type opt have none"):
        registry.create("mixlora").within(tiny_comparison(NAMES, targets=("q_proj",))).check(model.config, NAMES)
