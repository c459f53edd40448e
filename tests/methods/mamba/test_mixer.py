"""The mixers' own forward against the library's, token by token and all at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from methods.routing import mamba as mixers
from methods.routing.mamba import PROJECTIONS, ProjectionCalls, selective_scan
from methods.tiny import tiny_model


def inputs(b: int = 3, t: int = 11, d: int = 32) -> Tensor:
    return torch.randn(b, t, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def left_mask(b: int = 3, t: int = 11) -> Tensor:
    mask = torch.ones(b, t, dtype=torch.long)
    mask[1, :4], mask[2, :9] = 0, 0
    return mask


def run(mixer: Any, x: Tensor, cuts: list[int], cache: Any = None, mask: Tensor | None = None) -> Tensor:
    """Outputs of a sequence passed in parts; only the first has a mask, as in the library's generation."""
    parts = []
    for i, part in enumerate(x.split(cuts, 1)):
        parts.append(mixer(part, cache_params=cache, attention_mask=None if mask is None or i else mask[:, : cuts[0]]))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cuts", [None, [11], [10, 1], [5, *[1] * 6], [2, *[1] * 9]], ids=str)
@pytest.mark.parametrize("rounding", [True, False])
def test_equals_the_library(
    kind: str,
    cuts: list[int] | None,
    masked: bool,
    rounding: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a cache (None) and with one, prompt and steps, padding on the left; outputs and states.

    The library rounds to float32 in the middle of float64; with that taken out, both are equal.
    """
    if not rounding:
        monkeypatch.setattr(Tensor, "float", lambda self: self)
    model = tiny_model(kind, dtype=torch.float64)
    mask = left_mask() if masked else None
    for mixer in (block.mixer for block in model.backbone.layers):
        ours, theirs = (None if cuts is None else DynamicCache(config=model.config) for _ in range(2))
        with torch.no_grad():
            expected = run(mixer, inputs(), cuts or [11], theirs, mask)
            calls = ProjectionCalls(model)
            found = run(mixer, inputs(), cuts or [11], ours, mask)
            calls.undo()
        assert expected.abs().max() > 0.1
        largest = (found - expected).abs().max()
        assert largest < (1e-5 if rounding else 1e-10)
        if ours is not None and theirs is not None and not rounding:
            one, other = ours.layers[mixer.layer_idx], theirs.layers[mixer.layer_idx]
            assert (one.recurrent_states[0] - other.recurrent_states[0]).abs().max() < 1e-10
            assert (one.conv_states[0] - other.conv_states[0]).abs().max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_library_in_other_types(kind: str, dtype: torch.dtype) -> None:
    model = tiny_model(kind, dtype=dtype)
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        calls = ProjectionCalls(model)
        found = model(input_ids=ids).logits
        calls.undo()
    assert found.dtype == expected.dtype
    assert (found - expected).abs().max() < {torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype] * expected.abs().max()


def test_gradients_equal_the_librarys(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "float", lambda self: self)
    model = tiny_model(kind, dtype=torch.float64)
    mixer = model.backbone.layers[0].mixer
    gradients = []
    for own in (False, True):
        calls = ProjectionCalls(model) if own else None
        mixer.zero_grad()
        mixer(inputs()).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in mixer.named_parameters()})
        if calls is not None:
            calls.undo()
    for name, gradient in gradients[0].items():
        assert (gradients[1][name] - gradient).abs().max() < 1e-9 * gradient.abs().max(), name


@pytest.mark.parametrize("cuts", [[5, 6], [1, 2, 8], [4, 1, 6]], ids=str)
def test_a_cache_can_be_continued_by_several_tokens(
    kind: str, cuts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the library's own pass over several tokens does not do: it starts its state at zero again."""
    monkeypatch.setattr(Tensor, "float", lambda self: self)
    model = tiny_model(kind, dtype=torch.float64)
    mixer = model.backbone.layers[0].mixer
    with torch.no_grad():
        expected = mixer(inputs())
        lost = run(mixer, inputs(), cuts, DynamicCache(config=model.config))
        calls = ProjectionCalls(model)
        found = run(mixer, inputs(), cuts, DynamicCache(config=model.config))
        calls.undo()
    assert (lost - expected).abs().max() > 1e-3
    assert (found - expected).abs().max() < 1e-10


@pytest.mark.parametrize("chunk", [1, 3, 11, 64])
def test_scan_does_not_depend_on_its_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the recurrence written out."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).double()

    x, dt, A, B, C = random(2, 11, 5), random(2, 11, 5).exp(), -random(5, 4).exp(), random(2, 11, 4), random(2, 11, 4)
    h = first = random(2, 5, 4)
    expected = []
    for t in range(11):
        h = torch.exp(dt[:, t, :, None] * A) * h + dt[:, t, :, None] * B[:, t, None] * x[:, t, :, None]
        expected.append((h * C[:, t, None]).sum(-1))
    monkeypatch.setattr(mixers, "CHUNK", chunk)
    y, last = selective_scan(x, dt, A, B, C, first)
    assert (y - torch.stack(expected, 1)).abs().max() < 1e-10
    assert (last - h).abs().max() < 1e-10


class Shouting(nn.Module):
    """A projection that says that it was called."""

    def __init__(self, base: nn.Linear, said: list[str], name: str) -> None:
        super().__init__()
        self.base, self.said, self.name = base, said, name
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Tensor) -> Tensor:
        self.said.append(self.name)
        return self.base(x)


def test_the_library_bypasses_a_module_and_the_own_forward_does_not(kind: str) -> None:
    model = tiny_model(kind, dtype=torch.float64)
    mixer = model.backbone.layers[0].mixer
    said: list[str] = []
    for name in PROJECTIONS:
        setattr(mixer, name, Shouting(getattr(mixer, name), said, name))
    with torch.no_grad():
        mixer(inputs())
        assert "dt_proj" not in said
        said.clear()
        calls = ProjectionCalls(model)
        mixer(inputs())
        calls.undo()
    assert said == list(PROJECTIONS)


def test_undo_leaves_nothing(kind: str) -> None:
    model = tiny_model(kind, dtype=torch.float64)
    ids = torch.arange(3, 13)[None]
    before = [dict(module.__dict__) for module in model.modules()]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        calls = ProjectionCalls(model)
        inner = ProjectionCalls(model)
        inner.undo()
        assert "forward" in model.backbone.layers[0].mixer.__dict__
        calls.undo()
        calls.undo()
        assert torch.equal(model(input_ids=ids).logits, expected)
    assert [module.__dict__.keys() for module in model.modules()] == [entry.keys() for entry in before]
