"""What a composed model says of itself: its experts, their merge, what is stored; and draws that stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Composed, Unsupported
from methods.conformance import Subject
from methods.routing.build import install_hard, install_static
from methods.routing.context import RoutingContext
from methods.routing.providers import RandomRouter
from methods.routing.shuffle import Circle, Draws
from methods.tiny import tiny_batch, tiny_experts, tiny_llama

NAMES = ("a", "b", "c")


@contextmanager
def installed(composed: Composed) -> Iterator[Composed]:
    yield composed
    composed.uninstall()


def logits(composed: Composed) -> Tensor:
    batch = tiny_batch()
    with torch.no_grad():
        found: Tensor = composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return found


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
def test_constant_weights_are_one_ordinary_expert(weights: list[float]) -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    with installed(install_static(model, experts, lambda site: weights)) as composed:
        expected, merged = logits(composed), composed.merged("sum")
    assert merged.name == "sum"
    assert merged.sites.keys() == experts[0].sites.keys()
    with installed(install_static(model, [merged], lambda site: [1.0])) as composed:
        assert (logits(composed) - expected).abs().max() < 1e-12
    for path, factors in merged.sites.items():
        wanted = sum(
            w * e.sites[path].scale * e.sites[path].B @ e.sites[path].A for w, e in zip(weights, experts, strict=True)
        )
        assert (factors.scale * factors.B @ factors.A - wanted).abs().max() < 1e-12


def test_one_trained_expert_is_itself_and_several_are_none() -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    with installed(install_hard(model, experts[:1])) as composed:
        merged = composed.merged("only")
        assert merged.name == "only"
        for path, factors in merged.sites.items():
            assert factors.A.equal(experts[0].sites[path].A)
            assert factors.B.equal(experts[0].sites[path].B)
    for several in (install_hard, partial(registry.create("mixer").install, seed=0)):
        with installed(several(model, experts)) as composed, pytest.raises(Unsupported, match="no single LoRA equals"):
            composed.merged("all")


@pytest.mark.parametrize("name", ["mixer", "mixlora", "hydralora"])
def test_an_expert_is_given_out_by_its_name(name: str) -> None:
    composed = Subject(name).install()
    for own in composed.experts:
        expert = composed.expert(own)
        assert expert.name == own
        assert expert.sites


def test_experts_that_are_frozen_are_counted_without_their_padding() -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    numbers = sum(f.A.numel() + f.B.numel() for expert in experts for f in expert.sites.values())
    with installed(install_static(model, experts, lambda site: [1.0] * 3)) as composed:
        assert composed.stored() == {"experts": numbers}
        assert composed.groups() == {}
        assert composed.diagnostics() is None
    with installed(install_hard(model, experts)) as composed:
        assert composed.stored() == {}
        trained = composed.groups()["experts"]
        assert sum(p.numel() for p in trained.values()) == numbers
        assert {name.partition(".")[0] for name in trained} == {"experts"}


def test_a_state_of_other_names_is_refused() -> None:
    composed = Subject("mixer").install()
    state = composed.state()
    composed.load_state(state)
    for wrong in (
        {name: value for name, value in state.items() if not name.startswith("statistics.windows")},
        state | {"unknown": torch.zeros(1)},
        {name: value for index, (name, value) in enumerate(state.items()) if index},
    ):
        with pytest.raises(KeyError, match="names"):
            composed.load_state(wrong)


def test_taking_out_twice_is_taking_out_once() -> None:
    model = tiny_llama(dtype=torch.float64)
    before = logits(registry.create("base").install(model, tiny_experts(model, NAMES), seed=0))
    composed = registry.create("mixer").install(model, tiny_experts(model, NAMES), seed=0)
    assert not logits(composed).equal(before)
    composed.uninstall()
    composed.uninstall()
    assert logits(composed).equal(before)


def test_draws_of_stored_results_stay_what_they_are() -> None:
    """A change here changes results, and raises the versions of `random` and `shuffled-router`."""
    context = RoutingContext(input_ids=torch.tensor([[7, 8]]), position_ids=torch.tensor([[0, 1]]))
    router = RandomRouter(3, context, name="site", seed=5)
    drawn = router(torch.zeros(1, 2, 1, dtype=torch.float64), torch.zeros(0))
    expected = [[0.1864230156, -0.8964962275, -0.8598960241], [0.4313259031, 1.3445565184, 0.4132980559]]
    assert drawn[0].tolist() == [pytest.approx(row, abs=1e-9) for row in expected]
    assert Draws(5).sources(6, 0, 10) == [3, 1, 5, 2, 4, 0, 3, 2, 4, 4]
    assert Draws(5).sources(6, 6, 10) == [3, 2, 4, 4]


def test_places_behind_a_prompt_get_those_of_places_before_them() -> None:
    sources = Draws(0).sources(0, 0, 40)
    assert sources[0] == 0
    assert all(source < place for place, source in enumerate(sources) if place)


def test_a_circle_numbers_prompts_and_goes_round_them_once() -> None:
    context = RoutingContext(input_ids=torch.tensor([[1, 2], [3, 4], [1, 2], [5, 6]]))
    circle = Circle(context, seed=5)
    assert not circle.looks
    context.collect = True
    with circle.looking():
        assert circle.looks
        assert not context.collect
        assert circle.rows().tolist() == [0, 1, 0, 2]
    assert context.collect
    assert not circle.looks
    circle.clear()
    found = circle.rows()
    assert found.tolist() == [0, 1, 0, 2]
    assert circle.rows() is found  # all routers of a pass share it
    context.input_ids = context.input_ids[1:2]
    circle.clear()
    assert circle.rows().tolist() == [1]
    context.past_length = 2
    context.input_ids = torch.tensor([[9]])
    circle.clear()
    assert circle.rows().tolist() == [1]  # a cache goes on with whose prompt it holds
    partner = circle.partner.tolist()
    assert sorted(partner) == [0, 1, 2]
    assert all(number != other for number, other in enumerate(partner))
    assert partner[partner[partner[0]]] == 0


def test_what_a_circle_cannot_know_is_said() -> None:
    context = RoutingContext(input_ids=torch.tensor([[1, 2]]))
    circle = Circle(context, seed=5)
    with pytest.raises(RuntimeError) as caught:
        circle.rows()
    assert str(caught.value) == (
        "a prompt whose weights are to be shuffled was not looked at before: use survey.looking()."
    )
    context.input_ids = None
    with pytest.raises(RuntimeError) as caught:
        circle.rows()
    assert str(caught.value) == "shuffled weights of prompts need token ids, and the model was given embeddings."
    context.input_ids = torch.tensor([[1, 2]])
    with circle.looking():
        circle.rows()
    with pytest.raises(Unsupported) as refused:
        circle.partner  # noqa: B018
    assert str(refused.value) == "One prompt alone cannot get the weights of another: evaluate more items."


@pytest.mark.parametrize(("scope", "passes"), [("prompt_fixed", 1), ("token", 2)])
def test_a_first_pass_over_the_prompt_alone_costs_none_of_the_text(scope: str, passes: int) -> None:
    composed = Subject("xlora", {"scope": scope}).install()
    assert composed.passes == passes
    assert composed.kv_cache is composed.whole_prompts is (scope == "prompt_fixed")


def test_parameters_are_named_by_what_they_belong_to() -> None:
    model = tiny_llama(dtype=torch.float64)
    with installed(install_hard(model, tiny_experts(model, NAMES))) as composed:
        assert {"experts.a.model.layers.0.self_attn.q_proj.A", "experts.c.model.layers.1.self_attn.v_proj.B"} <= set(
            composed.groups()["experts"]
        )
    blocks = Subject("mixlora").install()
    named = {leaf for group in blocks.groups().values() for leaf in group}
    assert {name.rpartition(".")[2] for name in named if name.startswith(("experts.", "attention."))} == {"A", "B"}
    first = blocks.experts[0]
    assert f"experts.{first}.model.layers.0.mlp.gate_proj.B" in named


def test_settings_of_routers_are_settings_of_their_training() -> None:
    plain = registry.create("mixer").phase()
    assert (plain.lr, plain.weight_decay, plain.groups) == ({}, 0.0, ("routers",))
    own = registry.create("mixer", {"router.lr": 0.3, "router.weight_decay": 0.1}).phase()
    assert (own.lr, own.weight_decay) == ({"routers": 0.3}, 0.1)
