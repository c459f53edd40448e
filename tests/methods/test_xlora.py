"""X-LoRA: the two passes, what the classifier sees and decides, prompts, caches, and PEFT's implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.agreements import agreed
from methods.base import Expert, SiteFactors
from methods.experts import save_expert
from methods.seeding import seed_from
from methods.tiny import TARGETS, TinySession, tiny_batch, tiny_experts, tiny_llama
from methods.xlora import Classifier, XloraComposed, XloraConfig

NAMES = ("a", "b", "c", "d")


def compose(
    overrides: dict[str, Any] | None = None, *, experts: list[Expert] | None = None, dtype: torch.dtype = torch.float64
) -> XloraComposed:
    model = tiny_llama(dtype=dtype)
    pool = tiny_experts(model, NAMES) if experts is None else experts
    composed = registry.create("xlora", overrides).install(model, pool, seed=0)
    assert isinstance(composed, XloraComposed)
    return composed


def last(composed: XloraComposed) -> tuple[Tensor, Tensor]:
    """Weight and bias of the classifier's last layer."""
    weight, bias = list(composed.classifier.parameters())[-2:]
    return weight, bias


def sharpen(composed: XloraComposed) -> None:
    """Make the classifier decide differently from token to token."""
    with torch.no_grad():
        for name, parameter in composed.classifier.named_parameters():
            draw = torch.Generator().manual_seed(seed_from(name) % 1000)
            parameter.copy_(torch.randn(parameter.shape, generator=draw))


def base_hidden(inputs: dict[str, Tensor]) -> Tensor:
    model = tiny_llama(dtype=torch.float64)
    with torch.no_grad():
        out: Tensor = model.model(**inputs).last_hidden_state
    return out


def usual() -> dict[str, Tensor]:
    batch = tiny_batch()
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


@pytest.mark.parametrize("layerwise", [False, True])
def test_equals_two_plain_passes(layerwise: bool, naive: Any, logits: Any) -> None:
    """Against a plain loop: base without experts, classifier on the last hidden states, softmax, loop over experts."""
    composed = compose({"layerwise": layerwise, "tau": 0.7})
    sharpen(composed)
    weight, bias = (parameter.detach() for parameter in last(composed))
    scores = (base_hidden(usual()) @ weight.T + bias) / 0.7
    sites = list(composed.sites)

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        own = scores[..., 4 * sites.index(path) : 4 * sites.index(path) + 4] if layerwise else scores
        return own.softmax(-1)

    slow = naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), weigh)
    assert (logits(composed.model) - logits(slow)).abs().max() < 1e-9


def test_equal_logits_are_uniform(logits: Any) -> None:
    composed = compose()
    with torch.no_grad():
        for parameter in last(composed):
            parameter.zero_()
    model = tiny_llama(dtype=torch.float64)
    registry.create("uniform").install(model, tiny_experts(model, NAMES), seed=0)
    assert (logits(composed.model) - logits(model)).abs().max() < 1e-10


@pytest.mark.parametrize("overrides", [{}, {"layerwise": True, "depth": 2, "size": 8}], ids=str)
def test_a_large_bias_is_one_lora(overrides: dict[str, Any], logits: Any) -> None:
    """Bias to infinity on one expert gives that LoRA."""
    composed = compose(overrides)
    with torch.no_grad():
        last(composed)[1].view(-1, 4)[:, 2] = 1e6
    model = tiny_llama(dtype=torch.float64)
    registry.create("lora").install(model, [tiny_experts(model, NAMES)[2]], seed=0)
    assert (logits(composed.model) - logits(model)).abs().max() < 1e-10


def test_first_pass_does_not_see_the_experts() -> None:
    """Scalings are the same whatever the experts' weights are; the logits are not (control)."""
    outcomes = []
    for factor in (1.0, 5.0):
        pool = [
            Expert(e.name, {path: SiteFactors(f.A, factor * f.B, f.scale) for path, f in e.sites.items()})
            for e in tiny_experts(tiny_llama(dtype=torch.float64), NAMES)
        ]
        composed = compose(experts=pool)
        sharpen(composed)
        with torch.no_grad():
            out = composed.model(**usual()).logits
        assert composed.scalings.logits is not None
        outcomes.append((composed.scalings.logits, out))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert (outcomes[0][1] - outcomes[1][1]).abs().max() > 1e-2


def test_scalings_have_a_gradient_and_the_first_pass_none() -> None:
    """The classifier learns from the second pass; hidden states are constants."""
    composed = compose({"depth": 2, "size": 8})
    composed.context.training = True
    composed.model(**usual()).logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in composed.classifier.parameters())
    assert all(p.grad is None for name, p in composed.model.named_parameters() if "classifier" not in name)


def test_released_form_refuses_a_cache() -> None:
    """Scalings at t depend on tokens up to t alone, but a cache without the first pass's own keys
    would give a later token other ones, so continuing it is refused and declared."""
    composed = compose()
    sharpen(composed)
    assert not composed.kv_cache
    model, ids = composed.model, tiny_batch(2).input_ids.clamp(min=3)
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        scalings = composed.scalings.logits
        changed = torch.cat([ids[:, :8], ids[:, 8:].flip(1)], 1)
        assert (model(input_ids=changed).logits[:, :8] - whole[:, :8]).abs().max() < 1e-12
        prompt = model(input_ids=ids[:, :8], use_cache=True)
        with pytest.raises(RuntimeError, match="scores whole sequences"):
            model(input_ids=ids[:, 8:9], past_key_values=prompt.past_key_values, use_cache=True)
        model(input_ids=ids[:, 8:9])
        alone = composed.scalings.logits
    assert scalings is not None
    assert alone is not None
    assert (alone[:, 0] - scalings[:, 8]).abs().max() > 0.1


def test_prompt_fixed_is_cacheable() -> None:
    """In mode prompt_fixed cached decoding equals a whole pass whose prompt is marked, and nothing after the
    prompt changes what is before."""
    composed = compose({"scope": "prompt_fixed", "layerwise": True})
    sharpen(composed)
    assert composed.kv_cache
    assert composed.whole_prompts
    model, context = composed.model, composed.context
    ids = tiny_batch(2).input_ids.clamp(min=3)
    context.prompt_mask = torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        changed = torch.cat([ids[:, :7], ids[:, 7:].flip(1)], 1)
        assert (model(input_ids=changed).logits[:, :7] - whole[:, :7]).abs().max() < 1e-12
        prompt = model(input_ids=ids[:, :7], use_cache=True)
        cache = prompt.past_key_values
        steps = [model(input_ids=ids[:, n : n + 1], past_key_values=cache, use_cache=True).logits for n in range(7, 12)]
        # Rotary angles are float32 in the library, whatever the model's type.
        assert (torch.cat([prompt.logits, *steps], 1) - whole).abs().max() < 1e-6
        context.prompt_mask = torch.ones(2, 5, dtype=torch.bool)
        assert (model(input_ids=ids).logits - whole).abs().max() > 1e-2
        context.prompt_mask = None
        other = model(input_ids=ids[:1, :3], use_cache=True)
        model(input_ids=ids)
        with pytest.raises(RuntimeError, match="pass the prompt first"):
            model(input_ids=ids[:1, :1], past_key_values=other.past_key_values, use_cache=True)


def test_prompt_fixed_takes_the_last_prompt_token() -> None:
    """Of the unadapted model's hidden states; in training the one before the answer, whatever the answer is."""
    composed = compose({"scope": "prompt_fixed"})
    sharpen(composed)
    batch = tiny_batch()
    composed.context.training, composed.context.label_mask = True, batch.labels != -100
    weight, bias = (parameter.detach() for parameter in last(composed))
    ends = batch.attention_mask.sum(1) - 5
    expected = (base_hidden(usual()) @ weight.T + bias)[torch.arange(8), ends]
    found = []
    for ids in (batch.input_ids, torch.where(batch.labels != -100, 5, batch.input_ids)):
        composed.model(input_ids=ids, attention_mask=batch.attention_mask)
        assert composed.scalings.logits is not None
        found.append(composed.scalings.logits[:, 0, 0].detach())
    assert (found[0] - expected).abs().max() < 1e-10
    assert (found[1] - expected).abs().max() < 1e-10


def test_initial_logits_are_those_of_the_untrained_classifier() -> None:
    """Diagnostics of a trained model measure against the start."""
    composed = compose()
    registry.create("xlora").fit(composed, TinySession())
    with composed.task("any", "a"), torch.no_grad():
        composed.model(**usual())
        now, start = composed.scalings.logits, composed.scalings.initial
    report = composed.diagnostics()
    assert report is not None
    assert now is not None
    assert start is not None
    mask = tiny_batch().attention_mask.bool()
    assert report["logit_shift"] == pytest.approx((now - start)[mask].abs().mean().item(), abs=1e-9)
    assert report["logit_shift"] > 1e-3
    fresh = compose()
    with torch.no_grad():
        fresh.model(**usual())
    assert fresh.scalings.logits is not None
    assert torch.equal(start, fresh.scalings.logits)


@pytest.mark.parametrize(
    ("overrides", "count"),
    [({}, 24_582), ({"layerwise": True}, 3_146_496), ({"layerwise": True, "depth": 2}, 9_964_288)],
    ids=str,
)
def test_sizes_at_llama3_8b(overrides: dict[str, Any], count: int) -> None:
    """Six experts, 128 projections, width 4096."""
    like = torch.empty(0, device="meta")
    classifier = Classifier(XloraConfig(**overrides), 4096, 128, 6, seed=0, like=like)
    assert sum(p.numel() for p in classifier.parameters()) == count


def test_classifier_starts_as_torch_does_and_from_the_seed() -> None:
    one, two = (Classifier(XloraConfig(depth=3, size=16), 32, 8, 4, seed=s, like=torch.zeros(1)) for s in (0, 1))
    assert [type(layer).__name__ for layer in one.layers] == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]
    for (name, ours), theirs in zip(one.named_parameters(), two.parameters(), strict=True):
        bound = (32 if name.startswith("layers.0") else 16) ** -0.5
        assert ours.abs().max() <= bound
        assert not torch.equal(ours, theirs)
        assert ours.numel() < 16 or ours.abs().max() > 0.8 * bound


def test_parts_of_the_model_are_not_called_alone() -> None:
    composed = compose()
    layer: Any = composed.model.model.layers[0].self_attn.q_proj  # type: ignore[union-attr,index]
    with pytest.raises(RuntimeError, match="call the model, not its parts"):
        layer(torch.zeros(1, 2, 32, dtype=torch.float64))


# PEFT asks transformers 5 for a name that is going away.
@pytest.mark.parametrize("layerwise", [False, True])
def test_peft_agrees(layerwise: bool, tmp_path: Path, logits: Any) -> None:
    """PEFT 0.21's X-LoRA with the same experts and classifier gives the same logits, to 1e-5."""
    from peft import XLoraConfig as PeftXlora
    from peft import get_peft_model

    composed = compose({"layerwise": layerwise}, dtype=torch.float32)
    sharpen(composed)
    paths = {}
    for n, expert in enumerate(tiny_experts(tiny_llama(), NAMES)):
        save_expert(expert, tmp_path / expert.name, base_model="tiny", target_modules=TARGETS)
        paths[str(n)] = str(tmp_path / expert.name)
    model = tiny_llama()
    model.config.use_cache = False
    settings = PeftXlora(
        task_type="CAUSAL_LM", hidden_size=32, adapters=paths, xlora_depth=1, layerwise_scalings=layerwise
    )
    other: Any = get_peft_model(model, settings).eval()
    theirs = other.base_model.internal_xlora_classifier.layers[0]
    with torch.no_grad():
        for parameter, ours in zip((theirs.weight, theirs.bias), last(composed), strict=True):
            parameter.copy_(ours)
        expected = other(**usual()).logits
    mask = tiny_batch().attention_mask.bool()
    assert (logits(composed.model) - expected)[mask].abs().max() < agreed("xlora", "peft").output
