"""Output ensembles: equal to running adapter by adapter and mixing by hand, in likelihood and in generation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Expert, SiteFactors, Unsupported
from methods.conformance import Subject, logits
from methods.experts import save_expert
from methods.mixture import Mixture
from methods.tiny import (
    TinySession,
    generate,
    left_padded,
    model_logits,
    tiny_batch,
    tiny_experts,
    tiny_llama,
    tiny_model,
)

NAMES = ("a", "b", "c")
EVERYWHERE = ("llama", "mistral", "qwen3", "mamba", "falcon-mamba", "t5")


def pool(architecture: str = "llama") -> tuple[Any, list[Expert]]:
    model = tiny_model(architecture, dtype=torch.float64)
    return model, tiny_experts(model, NAMES)


def install(name: str = "ensemble", architecture: str = "llama", experts: Sequence[Expert] | None = None) -> Mixture:
    model, own = pool(architecture)
    composed = registry.create(name).install(model, own if experts is None else experts, seed=0)
    assert isinstance(composed, Mixture)
    return composed


def by_hand(logits_of_each: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The logarithm of the weighted mean of probabilities, as it is defined."""
    return sum(w * each.softmax(-1) for w, each in zip(weights, logits_of_each, strict=True)).log()  # type: ignore[union-attr]


def alone(expert: Expert, architecture: str = "llama") -> Any:
    model = tiny_model(architecture, dtype=torch.float64)
    return registry.create("lora").install(model, [expert], seed=0).model


def test_it_is_peft_adapter_by_adapter(tmp_path: Path) -> None:
    from peft import PeftModel

    composed, batch = install(), tiny_batch()
    each = []
    for expert in composed.pool:
        save_expert(expert, tmp_path / expert.name, base_model="tiny")
        theirs: Any = PeftModel.from_pretrained(tiny_llama(dtype=torch.float64), str(tmp_path / expert.name)).eval()
        with torch.no_grad():
            each.append(theirs(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits)
    found = logits(composed)
    assert torch.allclose(found, by_hand(each, [1 / 3] * 3), atol=1e-10)
    assert torch.allclose(found.exp().sum(-1), torch.ones(8, 12, dtype=torch.float64), atol=1e-12)
    mean_of_logits = torch.stack(each).mean(0).log_softmax(-1)
    assert not torch.allclose(found, mean_of_logits, atol=1e-3)


def greedy_with_peft(folder: Path, experts: Sequence[Expert], ids: Tensor, mask: Tensor, steps: int) -> Tensor:
    """Token by token, every adapter on the whole text, without any cache."""
    from peft import PeftModel

    models: list[Any] = []
    for expert in experts:
        save_expert(expert, folder / expert.name, base_model="tiny")
        models.append(PeftModel.from_pretrained(tiny_llama(dtype=torch.float64), str(folder / expert.name)).eval())
    with torch.no_grad():
        for _ in range(steps):
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            each = [m(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1] for m in models]
            chosen = by_hand(each, [1 / len(each)] * len(each)).argmax(-1, keepdim=True)
            ids, mask = torch.cat([ids, chosen], 1), torch.cat([mask, torch.ones_like(chosen)], 1)
    return ids


def test_it_generates_what_peft_does_adapter_by_adapter(tmp_path: Path) -> None:
    composed, (ids, mask) = install(), left_padded()
    expected = greedy_with_peft(tmp_path, composed.pool, ids, mask, 6)
    made = composed.model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    assert torch.equal(made, expected)


@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_likelihoods_and_texts_are_mixtures_on_every_architecture(architecture: str) -> None:
    """Texts with N caches are those of whole passes: each next token is the likeliest of the mixture by hand."""
    composed, batch = install(architecture=architecture), tiny_batch()
    models = [alone(expert, architecture) for expert in composed.pool]
    with torch.no_grad():
        each = [model_logits(model, batch.input_ids, batch.attention_mask) for model in models]
    assert torch.allclose(logits(composed), by_hand(each, [1 / 3] * 3), atol=1e-10)
    ids, mask = left_padded()
    with_caches, without = (generate(composed.model, ids, mask, use_cache=cache) for cache in (True, False))
    assert torch.equal(with_caches, without)


def test_a_t5_reads_each_expert_s_own_encoder() -> None:
    composed, (ids, mask) = install(architecture="t5"), left_padded()
    made = generate(composed.model, ids, mask, use_cache=True)
    given = made[:, :-1]
    each = []
    for expert in composed.pool:
        model = alone(expert, "t5")
        with torch.no_grad():
            each.append(model(input_ids=ids, attention_mask=mask, decoder_input_ids=given).logits)
    mixed = by_hand(each, [1 / 3] * 3)
    mixed[..., composed.model.config.eos_token_id] = -torch.inf  # it may not end within its six tokens
    assert torch.equal(mixed.argmax(-1), made[:, 1:])
    states = alone(composed.pool[0], "t5").get_encoder()(input_ids=ids, attention_mask=mask)
    with pytest.raises(RuntimeError, match="not those of every expert"):
        composed.model(encoder_outputs=states, decoder_input_ids=given)


def test_one_expert_alone_is_itself_and_copies_are_it() -> None:
    _, experts = pool()
    expected = logits(registry.create("lora").install(tiny_llama(dtype=torch.float64), experts[:1], seed=0))
    copies = [Expert(name, experts[0].sites) for name in NAMES]
    for own in (experts[:1], copies):
        assert torch.allclose(logits(install(experts=own)), expected.log_softmax(-1), atol=1e-10)


def test_the_order_of_experts_does_not_matter() -> None:
    _, experts = pool()
    assert torch.allclose(logits(install(experts=experts[::-1])), logits(install()), atol=1e-12)


def test_an_expert_without_a_site_is_the_base_there() -> None:
    _, (a, b, c) = pool()
    few = Expert("b", {site: f for site, f in b.sites.items() if "layers.1" in site})
    zeros = Expert(
        "b", {s: f if s in few.sites else SiteFactors(f.A, torch.zeros_like(f.B), 1.0) for s, f in b.sites.items()}
    )
    assert torch.allclose(logits(install(experts=[a, few, c])), logits(install(experts=[a, zeros, c])), atol=1e-12)


def test_a_token_costs_n_passes() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def flops(composed: Any) -> int:
        with FlopCounterMode(display=False) as counter:
            logits(composed)
        return int(counter.get_total_flops())

    model, experts = pool()
    single = registry.create("best-single").install(model, experts, seed=0)
    single.load_state({"chosen": torch.tensor([1])})
    assert install().passes == 3
    assert flops(install()) == 3 * flops(single)
    assert registry.create("uniform").install(tiny_llama(), tiny_experts(tiny_llama()), seed=0).passes == 1


def test_a_cache_of_another_model_is_refused() -> None:
    from transformers import DynamicCache

    composed, batch = install(), tiny_batch()
    filled = DynamicCache(config=composed.model.config)
    with torch.no_grad():
        tiny_llama(dtype=torch.float64)(input_ids=batch.input_ids, past_key_values=filled)
        with pytest.raises(RuntimeError, match="filled without the method"):
            composed.model(input_ids=batch.input_ids[:, :1], past_key_values=filled)


def test_beams_follow_every_expert_s_cache() -> None:
    """Beam search reorders caches; with those of some experts left behind, texts would differ from those without."""
    composed, (ids, mask) = install(), left_padded()
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "num_beams": 3}
    one, two = (
        composed.model.generate(input_ids=ids, attention_mask=mask, use_cache=cache, **options)  # type: ignore[operator]
        for cache in (True, False)
    )
    assert torch.equal(one, two)


def test_labels_are_refused() -> None:
    batch = tiny_batch()
    with pytest.raises(RuntimeError, match="cross-entropy of its logits"):
        install().model(input_ids=batch.input_ids, labels=batch.input_ids)


def test_no_single_lora_equals_it() -> None:
    with pytest.raises(Unsupported, match="depends on the input"):
        install().merged("x")


def test_trained_weights_are_the_likeliest_mixture() -> None:
    """The gradient of the mixture's likelihood in closed form, and training towards an expert that is right."""
    composed, batch = install("ensemble-dev"), tiny_batch()
    assert torch.equal(logits(composed), logits(install()))
    assert composed.weights is not None
    found = model_logits(composed.model, batch.input_ids, batch.attention_mask)[:, :-1]
    targets = batch.input_ids[:, 1:, None]
    loss = -found.gather(-1, targets).mean()
    loss.backward()
    with torch.no_grad():
        each = [model_logits(alone(expert), batch.input_ids, batch.attention_mask)[:, :-1] for expert in composed.pool]
    p = torch.stack([one.softmax(-1).gather(-1, targets) for one in each], -1)
    # d log sum_n w_n p_n / d v_n = posterior_n - w_n
    posterior = p / p.sum(-1, keepdim=True)
    assert composed.weights.grad is not None
    assert torch.allclose(composed.weights.grad, -(posterior - 1 / 3).flatten(0, -2).mean(0), atol=1e-12)
    weights = [0.2, 0.5, 0.3]
    with torch.no_grad():
        composed.weights.copy_(torch.tensor(weights, dtype=torch.float64).log() + 7)
    with torch.no_grad():
        each = [model_logits(alone(expert), batch.input_ids, batch.attention_mask) for expert in composed.pool]
    assert torch.allclose(logits(composed), by_hand(each, weights), atol=1e-10)
    note = registry.create("ensemble-dev").notes(composed)
    assert note == ["ensemble-dev: weights of the experts a 0.20, b 0.50, c 0.30."]


def test_weights_are_trained_on_development_rows_alone() -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    class Watching(TinySession):
        def train(self, composed: Any, phase: Any) -> None:
            asked.append((phase.data, phase.groups))
            super().train(composed, phase)

    composed = install("ensemble-dev")
    method = registry.create("ensemble-dev")
    method.fit(composed, Watching())
    assert asked == [("dev", ("weights",))]
    registry.create("ensemble").fit(install(), Watching())
    assert len(asked) == 1


def test_equal_weights_are_not_parameters() -> None:
    assert install().groups() == {}
    assert install().stored() == install("ensemble-dev").stored()
    assert Subject("ensemble").fitted().state() == {}


def test_a_forward_that_was_someone_s_comes_back() -> None:
    """accelerate keeps its own forward on the instance."""
    model, experts = pool()
    plain = model.forward
    mine = lambda **kwargs: plain(**kwargs)  # noqa: E731
    model.forward = mine
    composed = registry.create("ensemble").install(model, experts, seed=0)
    assert model.forward is not mine
    composed.uninstall()
    composed.uninstall()
    assert model.forward is mine
