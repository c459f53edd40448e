"""Over a quantised base every method does what it does over the weights that the base multiplies with."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.quantizers.base import get_keys_to_not_convert

from methods.base import Composed
from methods.conformance import Subject
from methods.merging.composed import MergedLinear
from methods.registry import names
from methods.routing.frozen import EIGHT, FOUR, dense_weight, rounds_products, settle, stored_as, weight_like
from methods.tiny import TinySession, model_logits, tiny_batch, tiny_model
from results.ground.errors import HarnessError

bitsandbytes = pytest.importorskip("bitsandbytes")

CLOSE = 1e-4
"""Of the largest logit: sums of float32 in another order, and what two steps or a search make of them."""
ROUNDED = 0.05
"""Where inputs are rounded to 8 bits."""


def quantised(kind: str = FOUR, architecture: str = "llama", dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A tiny model whose linear layers are quantised, but for those that transformers leaves as they are."""
    model = tiny_model(architecture, dtype=dtype)
    left = get_keys_to_not_convert(model) + list(model._keep_in_fp32_modules or ())
    usual: dict[str, Any] = {"has_fp16_weights": False, "threshold": 6.0}
    make = bitsandbytes.nn.Linear8bitLt
    if kind == FOUR:
        usual, make = {"quant_type": "nf4", "compute_dtype": dtype}, bitsandbytes.nn.Linear4bit
    for path, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and path.rpartition(".")[2] not in left:
            made = make(layer.in_features, layer.out_features, bias=layer.bias is not None, **(usual | options))
            made.load_state_dict(layer.state_dict())
            model.set_submodule(path, made.to("cpu").requires_grad_(False).eval())
    assert settle(model)
    return model


def dequantised(model: Any) -> Any:
    """The same model with ordinary layers that hold the dequantised weights."""
    twin = copy.deepcopy(model)
    for path, layer in list(model.named_modules()):
        if stored_as(layer) is None:
            continue
        dense = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, dtype=twin.dtype)
        dense.weight = nn.Parameter(dense_weight(layer).clone(), requires_grad=False)
        if layer.bias is not None:
            dense.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
        twin.set_submodule(path, dense.eval())
    return twin


def logits(model: Any) -> Tensor:
    batch = tiny_batch()
    with torch.no_grad():
        return model_logits(model, batch.input_ids, batch.attention_mask)


def fitted(subject: Subject, model: Any) -> Composed:
    composed = subject.install(model)
    subject.method().fit(composed, TinySession(steps=2))
    return composed


@pytest.mark.parametrize("name", names())
def test_a_method_over_four_bits_equals_it_over_their_dense_weights(name: str) -> None:
    """Installed, fitted and evaluated; and taken off, the base is what it was to the bit."""
    subject = Subject(name)
    base = quantised()
    twin, before = dequantised(base), logits(base)
    composed, beside = fitted(subject, base), fitted(subject, twin)
    with composed.task("a", own="a"), beside.task("a", own="a"):
        found, expected = logits(base), logits(twin)
    assert (found - expected).abs().max() < CLOSE * expected.abs().max()
    assert name == "base" or (found - before).abs().max() > 100 * CLOSE
    composed.uninstall()
    assert torch.equal(logits(base), before)


@pytest.mark.parametrize("name", ["uniform", "mixer", "mole", "xlora", "ties", "mixlora", "goat"])
def test_a_method_over_eight_bits_is_near_it_over_their_dense_weights(name: str) -> None:
    """LLM.int8() rounds inputs as well, each token's by its own largest; a base alone differs as much."""
    subject = Subject(name)
    base = quantised(EIGHT)
    twin, before = dequantised(base), logits(base)
    composed, beside = fitted(subject, base), fitted(subject, twin)
    with composed.task("a", own="a"), beside.task("a", own="a"):
        found, expected = logits(base), logits(twin)
    assert 0 < (found - expected).norm() < ROUNDED * expected.norm()
    composed.uninstall()
    assert torch.equal(logits(base), before)


@pytest.mark.parametrize("architecture", ["t5", "mamba", "qwen2"])
def test_other_architectures_are_routed_over_four_bits(architecture: str) -> None:
    """Encoders and decoders, state-space mixers, and layers with a bias."""
    subject = Subject("mixer", architecture=architecture)
    base = quantised(architecture=architecture)
    twin = dequantised(base)
    fitted(subject, base), fitted(subject, twin)
    expected = logits(twin)
    assert (logits(base) - expected).abs().max() < CLOSE * expected.abs().max()


@pytest.mark.parametrize("kind", [FOUR, EIGHT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_stands_for_a_weight_has_its_shape_and_no_values(kind: str, dtype: torch.dtype) -> None:
    layer = quantised(kind, dtype=dtype).model.layers[0].mlp.up_proj
    like = weight_like(layer)
    assert (like.shape, like.dtype, like.device) == ((48, 32), dtype, layer.weight.device)
    assert bool(like.isnan().all())
    assert like.untyped_storage().nbytes() == dtype.itemsize


@pytest.mark.parametrize("kind", [FOUR, EIGHT])
def test_the_dense_weight_is_what_the_layer_multiplies_with(kind: str) -> None:
    layer = quantised(kind).model.layers[0].mlp.up_proj
    identity = torch.eye(32)
    exact = identity @ dense_weight(layer).T
    assert (layer(identity) - exact).abs().max() <= (0 if kind == FOUR else ROUNDED)
    original = tiny_model("llama").model.layers[0].mlp.up_proj.weight
    assert 0 < (dense_weight(layer) - original).abs().max() < 0.5 * original.abs().max()


@pytest.mark.parametrize("kind", [FOUR, EIGHT])
def test_gradients_pass_through_to_what_lies_below(kind: str) -> None:
    """As through the dense weight, also after a pass without any, in which bitsandbytes may lay weights out anew."""
    layer = quantised(kind).model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer(torch.ones(3, 32))
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    layer(x).square().sum().backward()
    assert x.grad is not None
    twin = x.detach().clone().requires_grad_()
    (twin @ dense_weight(layer).T).square().sum().backward()
    assert twin.grad is not None
    assert (x.grad - twin.grad).abs().max() < (1e-5 if kind == FOUR else ROUNDED) * twin.grad.abs().max()


def test_a_merge_stays_beside_a_quantised_weight() -> None:
    """No dense copy of the base is made, and its own product stays what it is."""
    base = quantised()
    composed = Subject("ties").install(base)
    layer = composed.sites["model.layers.0.self_attn.q_proj"]
    assert isinstance(layer, MergedLinear)
    assert layer._folded is None
    composed.uninstall()


@pytest.mark.parametrize(
    ("kind", "options", "rounded"),
    [(FOUR, {}, False), (FOUR, {"compute_dtype": torch.bfloat16}, True), (EIGHT, {}, True)],
)
def test_whether_products_round_is_known(kind: str, options: dict[str, Any], rounded: bool) -> None:
    assert rounds_products(quantised(kind, **options)) is rounded


def test_an_eight_bit_layer_that_nobody_settled_is_refused_in_a_sentence() -> None:
    layer = bitsandbytes.nn.Linear8bitLt(8, 8, bias=False, has_fp16_weights=False).to("cpu")
    with pytest.raises(HarnessError, match=r"call methods\.routing\.frozen\.settle"):
        weight_like(layer)
