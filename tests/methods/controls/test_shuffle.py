"""A shuffled router: the same weights, given to others; whatever else the router is stays."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.base import Composed, Unsupported
from methods.conformance import (
    Subject,
    batching_changes_nothing,
    diagnostics_have_the_fields,
    logits,
    text_does_not_depend_on_the_cache,
)
from methods.routing.composed import RoutedComposed
from methods.routing.shuffle import Draws, shuffle
from methods.tiny import TinySession, generate, left_padded


def passed(model: Any, ids: Tensor, mask: Tensor | None = None) -> None:
    """One pass whose prompts are `ids`."""
    more = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask, use_cache=False, **more)


def weights(composed: Composed, ids: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Weights `[b, t, K, N]` that each router applied in a pass."""
    assert isinstance(composed, RoutedComposed)
    for router in composed.routers:
        router.followed = True
    passed(composed.model, ids, mask)
    return [router.latest.clone() for router in composed.routers if router.latest is not None]


def fitted(name: str, overrides: dict[str, Any] | None = None, architecture: str = "llama") -> Composed:
    subject = Subject(name, overrides or {}, architecture)
    composed = subject.install()
    subject.method().fit(composed, TinySession())
    return composed


class Shuffled(Subject):
    """A method under test whose fitted router is shuffled over tokens."""

    @cached_property
    def _fitted(self) -> Composed:
        composed = fitted(self.name, dict(self.overrides), self.architecture)
        shuffle(composed, "token", 0)
        return composed


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("mixer", "llama"), ("mole", "qwen3"), ("mixer", "t5"), ("mixer", "mamba"), ("hydralora", "llama"),
     ("mixlora", "llama")],
)  # fmt: skip
def test_text_is_well_defined_with_a_cache_without_one_and_in_any_batch(name: str, architecture: str) -> None:
    subject = Shuffled(name, {}, architecture)
    for check in (text_does_not_depend_on_the_cache, batching_changes_nothing, diagnostics_have_the_fields):
        check(subject)


def test_weights_that_differ_between_tokens_are_permuted_within_their_prompt() -> None:
    composed = fitted("mixer")
    ids, mask = left_padded()
    before = weights(composed, ids, mask)
    shuffle(composed, "token", 0)
    after = weights(composed, ids, mask)
    # Only the first router reads what it read before: the others' inputs have changed with its weights.
    moved = 0
    for row, own in enumerate(mask.bool()):
        one, other = before[0][row, own], after[0][row, own]
        order = Draws(0).sources(int(own.sum()), 0, int(own.sum()))
        assert sorted(order) == list(range(int(own.sum())))
        assert torch.allclose(other, one[order])
        moved += not torch.allclose(one, other)
    assert moved >= 3


def test_a_token_behind_the_prompt_gets_the_weights_of_one_before_it() -> None:
    composed = fitted("mixer")
    ids, _ = left_padded()
    before = weights(composed, ids[:1])[0][0]
    shuffle(composed, "token", 0)
    composed.context.prompt_mask = torch.ones(1, 4, dtype=torch.bool)
    after = weights(composed, ids[:1])[0][0]
    sources = Draws(0).sources(4, 0, 10)
    assert torch.allclose(after, before[sources])
    assert sorted(sources[:4]) == [0, 1, 2, 3]
    assert all(source < place for place, source in enumerate(sources) if place >= 4)


def test_the_seed_decides_the_draws() -> None:
    one, again, other = (Draws(seed).sources(20, 0, 30) for seed in (0, 0, 1))
    assert one == again != other


def test_all_routers_of_a_pass_share_the_draw() -> None:
    composed = fitted("mixer", {"router.scope": "shared_qkv"})
    shuffle(composed, "token", 0)
    assert isinstance(composed, RoutedComposed)
    assert len({id(router.arrangement._places) for router in composed.routers}) == 1  # type: ignore[union-attr]


def test_training_is_not_shuffled() -> None:
    composed, plain = Subject("mixer").install(), Subject("mixer").install()
    shuffle(composed, "token", 0)
    for one in (composed, plain):
        Subject("mixer").method().fit(one, TinySession())
    for name, value in plain.state().items():
        assert torch.equal(value, composed.state()[name])


PROMPTWISE = [
    ("retrieval", {}, "llama"),
    ("xlora", {"scope": "prompt_fixed"}, "llama"),
    ("mole", {"gate.scope": "prompt_mean"}, "llama"),
    ("retrieval", {}, "t5"),
]


@pytest.mark.parametrize(("name", "overrides", "architecture"), PROMPTWISE)
def test_weights_of_prompts_go_round_the_prompts(name: str, overrides: dict[str, Any], architecture: str) -> None:
    composed = fitted(name, overrides, architecture)
    assert Subject(name, overrides, architecture).method().routes() == "example"
    ids, mask = left_padded()
    before = weights(composed, ids, mask)[0][:, -1]
    shuffle(composed, "example", 0)
    assert composed.survey is not None
    with composed.survey.looking():
        for row, own in enumerate(mask.bool()):
            passed(composed.model, ids[row : row + 1, own])
    after = weights(composed, ids, mask)[0][:, -1]
    order = [int((before - one).abs().sum((1, 2)).argmin()) for one in after]
    if len({tuple(one.flatten().tolist()) for one in before}) == len(before):
        assert sorted(order) == [0, 1, 2, 3]
        assert all(place != source for place, source in enumerate(order))
    partner = composed.survey.partner.tolist()  # type: ignore[attr-defined]
    assert torch.allclose(after, before[partner])
    alone = weights(composed, ids[2:3, mask[2].bool()])[0][:, -1]
    assert torch.allclose(alone[0], after[2])
    composed.context.prompt_mask = mask.bool()
    if composed.kv_cache:
        texts = [generate(composed.model, ids, mask, use_cache=cache) for cache in (True, False)]
        assert torch.equal(*texts)


def test_prompts_that_nobody_looked_at_are_refused() -> None:
    composed = fitted("retrieval")
    shuffle(composed, "example", 0)
    ids, _ = left_padded()
    assert composed.survey is not None
    with pytest.raises(RuntimeError, match="was not looked at before"):
        logits(composed)
    with composed.survey.looking():
        passed(composed.model, ids[:1])
    with pytest.raises(Unsupported, match="One prompt alone"):
        passed(composed.model, ids[:1])
    with pytest.raises(RuntimeError, match="was not looked at before"):
        passed(composed.model, ids[:2])


def test_what_has_no_router_cannot_be_shuffled() -> None:
    for name in ("uniform", "lorahub", "base"):
        assert Subject(name).method().routes() is None
        with pytest.raises(Unsupported, match="no router"):
            shuffle(Subject(name).install(), "token", 0)


def test_a_cache_that_was_filled_without_the_control_is_not_continued() -> None:
    composed = fitted("mixer")
    ids, _ = left_padded()
    with torch.no_grad():
        cache = composed.model(input_ids=ids[:1, :5], use_cache=True).past_key_values
    shuffle(composed, "token", 0)
    with pytest.raises(RuntimeError, match="pass the prompt first"), torch.no_grad():
        composed.model(input_ids=ids[:1, 5:6], past_key_values=cache, use_cache=True)
