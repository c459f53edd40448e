"""A base that is spread over several devices, or in part on the disk: every method does what it does on one device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.base import Composed
from methods.conformance import Subject
from methods.registry import names
from methods.routing.frozen import dense_weight, input_device, kept_elsewhere, weight_like
from methods.tiny import TinySession, model_logits, tiny_batch, tiny_model
from tests.pretend import FIRST, HOST, SECOND, Devices, Mixed, spread

PLACES = {
    "model.embed_tokens": "disk",
    "model.rotary_emb": "cpu",
    "model.layers.0": "disk",
    "model.layers.1": "cpu",
    "model.norm": "disk",
    "lm_head": "disk",
}
GLOBAL = {"router.scope": "global"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spread") / "tiny"
    tiny_model().save_pretrained(folder)
    return folder


def loaded(saved: Path) -> Any:
    """A tiny model of which only one layer stays in memory."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(saved, device_map=PLACES, dtype=torch.float32)
    return model.eval().requires_grad_(False)


def logits(model: Any, device: torch.device = HOST) -> Tensor:
    batch = tiny_batch().to(device)
    with torch.no_grad():
        return model_logits(model, batch.input_ids, batch.attention_mask)


def fitted(subject: Subject, model: Any) -> Composed:
    composed = subject.install(model)
    subject.method().fit(composed, TinySession(steps=1))
    return composed


def on_one(subject: Subject) -> Tensor:
    model = tiny_model()
    composed = fitted(subject, model)
    with composed.task("a", own="a"):
        return logits(model)


def subjects() -> Iterator[Any]:
    for name in names():
        yield pytest.param(Subject(name), id=name)
    yield pytest.param(Subject("mixer", GLOBAL), id="mixer[router.scope=global]")


@pytest.mark.parametrize("subject", list(subjects()))
def test_a_method_over_two_devices_equals_it_on_one(subject: Subject) -> None:
    """Installed, fitted, and evaluated with its diagnostics; nothing is added to what is on another device."""
    expected = on_one(subject)
    model = tiny_model()
    with spread(model, ("model.layers.1", "model.norm", "lm_head")):
        composed = fitted(subject, model)
        with composed.task("a", own="a"):
            found = logits(model, FIRST)
        composed.diagnostics()
        composed.load_state(composed.state())
        assert found.device == FIRST
        composed.uninstall()
    # The encoder's attention is computed by another kernel where somebody watches.
    assert (found - expected).abs().max() <= (1e-5 if subject.name == "hmora" else 0)


@pytest.mark.parametrize("name", ["uniform", "mixer", "xlora", "ties", "mixlora", "goat", "retrieval", "hmora"])
def test_a_method_over_a_base_on_the_disk_equals_it_in_memory_to_the_bit(name: str, saved: Path) -> None:
    subject = Subject(name)
    model = loaded(saved)
    before = logits(model)
    composed = fitted(subject, model)
    with composed.task("a", own="a"):
        assert torch.equal(logits(model), on_one(subject))
    composed.uninstall()
    assert torch.equal(logits(model), before)
    assert torch.equal(before, logits(tiny_model()))
    assert {p.device.type for p in model.parameters()} == {"meta", "cpu"}


def test_what_stands_for_a_weight_on_the_disk_is_where_it_computes(saved: Path) -> None:
    model, whole = loaded(saved), tiny_model()
    away, here = model.model.layers[0].mlp.up_proj, model.model.layers[1].mlp.up_proj
    assert kept_elsewhere(away)
    assert away.weight.is_meta
    assert (weight_like(away).shape, weight_like(away).device.type) == ((48, 32), "cpu")
    assert bool(weight_like(away).isnan().all())
    assert torch.equal(dense_weight(away), whole.model.layers[0].mlp.up_proj.weight)
    assert away.weight.is_meta
    assert weight_like(here) is here.weight
    assert dense_weight(here) is here.weight
    assert input_device(model).type == "cpu"


def test_what_looks_at_a_model_before_routing_it_looks_at_one_on_the_disk_too(saved: Path) -> None:
    """Layers that text does not pass are refused whether or not their weights are in memory."""
    model = loaded(saved)
    model.model.layers[0].mlp.register_module("q_proj", nn.Linear(32, 32, bias=False))
    with pytest.raises(Exception, match="reads text without calling"):
        Subject("mixer").install(model)


def test_a_pretended_device_refuses_what_a_device_refuses() -> None:
    """The negative control of the tests above."""
    with Devices():
        here, there = torch.ones(3, device=FIRST), torch.ones(3, device=SECOND)
        assert (here.device, there.device) == (FIRST, SECOND)
        assert (here + here[0]).device == FIRST
        assert (here.to(SECOND) + there).device == SECOND
        assert (here + torch.tensor(1.0)).device == FIRST
        for mixed in (lambda: here + there, lambda: here * there[0], lambda: torch.cat([here, torch.ones(1)])):
            with pytest.raises(Mixed):
                mixed()
