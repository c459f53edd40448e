"""What a pass tells routers, and which layers a pass reaches, whatever the model's modules are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import registry
from methods.base import Expert, SiteFactors, Unsupported
from methods.experts import linear_sites
from methods.regmean import Grams
from methods.routing.probe import refuse_bypassed
from methods.routing.tokens import token_stacks, towers
from methods.tiny import tiny_comparison, tiny_experts, tiny_llama, tiny_model

NAMES = ("a", "b", "c", "d")
OPT = ("q_proj", "k_proj", "v_proj", "out_proj")
GATED = ("gate_proj", "up_proj", "down_proj")
KINDS = [
    ("llama", ("q_proj", "o_proj")),
    ("opt", OPT),
    ("gemma3", ("q_proj", "o_proj")),
    ("llama4_text", ("q_proj", "o_proj")),
    ("qwen2_moe", ("q_proj", *GATED)),
    ("falcon_h1", ("q_proj", "in_proj", *GATED)),
    ("nemotron_h", ("q_proj", "o_proj")),
]


def ids_of(n: int = 4, length: int = 8) -> Tensor:
    return torch.randint(3, 60, (n, length), generator=torch.Generator().manual_seed(0))


def passes(composed: Any, padding: int) -> tuple[dict[str, float], Tensor]:
    """Losses of a training pass and the logits of its tokens, with columns of padding on the right."""
    ids, real = ids_of(), torch.ones(4, 8, dtype=torch.long)
    ids, mask = nn.functional.pad(ids, (0, padding)), nn.functional.pad(real, (0, padding))
    context = composed.context
    context.training, context.label_mask, context.progress = True, mask.bool(), 1.0
    with torch.no_grad():
        logits = composed.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :8]
    losses = {name: term.value.item() for name, term in composed.losses().items()}
    context.training = False
    return losses, logits


@pytest.mark.parametrize(("kind", "targets"), KINDS)
def test_padding_changes_no_statistics(kind: str, targets: tuple[str, ...], model_of: Callable[[str], Any]) -> None:
    model = model_of(kind)
    overrides = {"loss.stats_scope": "microbatch", "router.init_std": 0.5}
    composed = registry.create("mixer", overrides).install(model, tiny_experts(model, targets=targets), seed=0)
    (plain, short), (padded, long) = passes(composed, 0), passes(composed, 12)
    assert plain.keys() == {"aux", "entropy"}
    assert padded == pytest.approx(plain, rel=1e-6)
    assert (short - long).abs().max() < 1e-6
    assert composed.context.token_mask is not None


@pytest.mark.parametrize(("kind", "targets"), KINDS)
def test_xlora_scores_what_the_model_reads(kind: str, targets: tuple[str, ...], model_of: Callable[[str], Any]) -> None:
    """Its first pass gives the base's last hidden states: a classifier on them alone gives its scalings."""
    model = model_of(kind)
    with torch.no_grad():
        stack: Any = token_stacks(model)[-1]
        hidden = stack(input_ids=ids_of(), use_cache=False).last_hidden_state
    composed: Any = registry.create("xlora").install(model, tiny_experts(model, targets=targets), seed=0)
    with torch.no_grad():
        model(input_ids=ids_of(), use_cache=False)
        assert (composed.scalings.logits - composed.classifier(hidden)).abs().max() < 1e-10
    composed.uninstall()


@pytest.mark.parametrize("name", ["mixer", "mole", "arrow", "cat-soup", "phatgoose", "xlora", "hydralora", "loramoe"])
def test_layers_between_experts_are_given_sequences(name: str, model_of: Callable[[str], Any]) -> None:
    """A shared expert gets tokens without their sequences; its sites act as they do on whole sequences."""
    model = model_of("qwen2_moe")
    method = registry.create(name).within(tiny_comparison(NAMES, targets=GATED))
    composed = method.install(model, tiny_experts(model, targets=GATED), seed=0)
    with torch.no_grad():
        for group in composed.groups().values():
            for n, parameter in enumerate(group.values()):
                draw = torch.Generator().manual_seed(n)
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
        whole = model(input_ids=ids_of(), use_cache=False).logits
        alone = torch.cat([model(input_ids=row, use_cache=False).logits for row in ids_of().split(1)])
    assert (whole - alone).abs().max() < 1e-10


def test_grams_of_a_shared_expert_leave_padding_out(model_of: Callable[[str], Any]) -> None:
    """Inputs without sequences are counted as those with sequences are: padding changes no Gram matrix."""
    model = model_of("qwen2_moe")
    composed: Any = registry.create("regmean").install(model, tiny_experts(model, targets=GATED), seed=0)
    sites = list(composed.sites)
    found = []
    for padding in (0, 5):
        ids, mask = nn.functional.pad(ids_of(), (0, padding)), torch.ones(4, 8 + padding, dtype=torch.long)
        mask[:, 8:] = 0
        grams = Grams(composed, sites)
        with torch.no_grad():
            model(input_ids=ids, attention_mask=mask, use_cache=False)
        grams.remove()
        found.append([grams.of(site) for site in sites])
    for plain, padded in zip(*found, strict=True):
        assert (plain - padded).abs().max() < 1e-6 * plain.abs().max()


def on_site(model: nn.Module, path: str) -> list[Expert]:
    linear: Any = model.get_submodule(path)
    A, B = torch.ones(2, linear.in_features).double(), torch.ones(linear.out_features, 2).double()
    return [Expert(name, {path: SiteFactors(A, B, 1.0)}) for name in NAMES]


@pytest.mark.parametrize(
    ("kind", "site"),
    [
        ("falcon_h1", "model.layers.0.mamba.out_proj"),
        ("granitemoehybrid", "model.layers.0.mamba.out_proj"),
        ("nemotron_h", "model.layers.0.mixer.out_proj"),
        ("bamba", "model.layers.0.mamba.out_proj"),
        ("jamba", "model.layers.0.mamba.dt_proj"),
    ],
)
@pytest.mark.parametrize("name", ["mixer", "uniform", "ties"])
def test_weights_that_are_read_past_their_layer_are_refused(
    kind: str, site: str, name: str, model_of: Callable[[str], Any]
) -> None:
    """Also where this device would not do so, and without looking at the model's name."""
    model = model_of(kind)
    method = registry.create(name)
    method.check(model.config, NAMES)
    with pytest.raises(Unsupported, match=rf"computes with \w+\.weight itself .* a LoRA on {site} would be bypassed"):
        method.install(model, on_site(model, site), seed=0)
    assert all(parameter.requires_grad for parameter in model.parameters())


class Owner(nn.Module):
    """Reads weights of its layers in many ways."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("called", "typed", "tested", "fused"):
            setattr(self, name, nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.tested.weight, Tensor)
        return x.to(self.typed.weight.dtype) @ self.fused.weight + self.called(x)


def test_only_computing_with_a_weight_is_bypassing() -> None:
    model = nn.Sequential(Owner())
    refuse_bypassed(model, ["0.called", "0.typed", "0.tested"])
    refuse_bypassed(model, ["0.fused"], mended=[model[0]])
    with pytest.raises(Unsupported, match=r"Owner computes with fused\.weight itself"):
        refuse_bypassed(model, ["0.fused"])


def test_towers_are_not_trained_and_their_experts_refused(model_of: Callable[[str], Any]) -> None:
    """Text does not pass a vision tower."""
    model = model_of("gemma3")
    assert towers(model) == ("model.vision_tower",)
    assert all(".language_model." in path for path in linear_sites(model, ["q_proj"]))
    site = next(path for path, _ in model.named_modules() if "vision_tower" in path and path.endswith("q_proj"))
    for name in ("mixer", "regmean"):
        with pytest.raises(
            Unsupported, match=rf"reads text without calling {site}, so that experts there would do noth"
        ):
            registry.create(name).install(model, on_site(model, site), seed=0)


def test_layers_that_see_some_tokens_are_refused() -> None:
    """A layer that a model of experts calls with the tokens that it was given, as a module list of experts does."""

    class Some(nn.Module):
        def __init__(self, of: nn.Module) -> None:
            super().__init__()
            self.of = of

        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(0, 1)
            return torch.cat([self.of(flat[:4]), flat[4:]]).view_as(x)

    model = tiny_llama(dtype=torch.float64)
    model.model.layers[1].mlp = Some(model.model.layers[1].mlp)
    with pytest.raises(Unsupported, match=r"gives model\.layers\.1\.mlp\.of\.gate_proj 4 of 6 tokens"):
        registry.create("mixer").install(model, on_site(model, "model.layers.1.mlp.of.gate_proj"), seed=0)
    registry.create("uniform").install(model, on_site(model, "model.layers.1.mlp.of.gate_proj"), seed=0)


def test_a_pass_that_no_hook_sees_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers do not count padding as tokens because nobody told them what padding is."""
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create("mixer").install(model, tiny_experts(model), seed=0)
    inner = model.model
    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", inner.forward)
        with pytest.raises(RuntimeError, match="padding is not known to routers"):
            model(input_ids=ids_of())
    with torch.no_grad():
        model(input_ids=ids_of())
        inner(input_ids=ids_of())
    assert composed.context.entered


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_pass_leaves_the_next_one_alone(error: type[BaseException], model_of: Callable[[str], Any]) -> None:
    """Also in a model of several stacks, of which the outermost that was entered counts."""
    model = model_of("gemma3")
    composed = registry.create("mixer").install(model, tiny_experts(model, targets=("q_proj",)), seed=0)
    layer = model.model.language_model.layers[1]

    def fail(*_: Any) -> None:
        raise error

    handle = layer.register_forward_pre_hook(fail)
    with torch.no_grad(), pytest.raises(error):
        model(input_ids=ids_of())
    handle.remove()
    mask = torch.ones(4, 8, dtype=torch.long)
    mask[0, 3:] = 0
    with torch.no_grad():
        model(input_ids=ids_of(), attention_mask=mask)
    assert composed.context.token_mask is not None
    assert torch.equal(composed.context.token_mask, mask.bool())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_reentrant_checkpointing_is_refused(kind: str) -> None:
    """It runs layers first without a graph, so routing losses would have no gradient; a pass without any is no such."""
    model = tiny_model(kind)
    composed = registry.create("mixer").install(model, tiny_experts(model), seed=0)
    context = composed.context
    context.training = True
    inputs = {"input_ids": ids_of()} | ({"decoder_input_ids": ids_of()} if kind == "t5" else {})
    model.train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(Unsupported, match=r'Reentrant .* enable it with \{"use_reentrant": False\}'):
        model(**inputs, use_cache=False)
    with torch.no_grad():
        model(**inputs, use_cache=False)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model(**inputs, use_cache=False)
    assert sum(term.value for term in composed.losses().values()).requires_grad  # type: ignore[union-attr]
