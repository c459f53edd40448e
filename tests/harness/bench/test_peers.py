"""The other sides of benchmarks do the same work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.bench.composed import LoopLinear, copied, looped, pool, routed
from harness.bench.measure import multiply_adds
from harness.bench.routing import LOOPS, Decoding, LayerWork, prefill, tokens
from harness.bench.xlora_peer import xlora
from methods.tiny import tiny_batch, tiny_llama, window_gradient


def test_the_loop_over_experts_equals_the_routed_layer() -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = pool(model, 5, 4)
    found: list[tuple[torch.Tensor, torch.Tensor, dict[str, float]]] = []
    for loop in (False, True):
        composed = routed(model, experts, fuse=not loop)
        parameters = list(composed.groups()["routers"].values())
        for parameter in parameters:
            parameter.requires_grad_(True)

        def one(composed: Any = composed, parameters: Any = parameters) -> None:
            losses = window_gradient(composed, [tiny_batch()])
            logits = model(input_ids=tiny_batch().input_ids).logits
            found.append((logits.detach(), torch.cat([p.grad.flatten() for p in parameters]), losses))

        if loop:
            with looped(composed):
                one()
        else:
            one()
        composed.uninstall()
    (logits, gradient, losses), (other, other_gradient, other_losses) = found
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(other, logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(other_gradient, gradient, rtol=0, atol=1e-13)
    assert other_losses == pytest.approx(losses, abs=1e-12)


def test_the_loops_are_taken_out_again() -> None:
    model = tiny_llama()
    clean = model(input_ids=tiny_batch().input_ids).logits
    composed = routed(model, pool(model, 5, 4), fuse=False)
    routed_logits = model(input_ids=tiny_batch().input_ids).logits
    with looped(composed):
        pass
    assert torch.equal(model(input_ids=tiny_batch().input_ids).logits, routed_logits)
    composed.uninstall()
    assert torch.equal(model(input_ids=tiny_batch().input_ids).logits, clean)


@pytest.mark.parametrize("kind", [kind for kind, _ in LOOPS.values()])
def test_layers_give_the_same_gradients_fused_and_looped(kind: type[LoopLinear]) -> None:
    model = tiny_llama(dtype=torch.float64)
    experts = pool(model, 5, 4)
    fused = routed(model, experts)
    ours = LayerWork(fused, repeats=1)
    ours()
    fused.uninstall()
    plain = routed(model, experts, fuse=False)
    with looped(plain, kind):
        theirs = LayerWork(plain, repeats=1)
        theirs()
    plain.uninstall()
    assert len(ours.gradients()) == 6
    for one, other in zip(ours.gradients(), theirs.gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_decoding_repeats_itself_and_agrees_with_passes_over_the_whole_text() -> None:
    model = tiny_llama(dtype=torch.float64)
    composed = routed(model, pool(model, 5, 4))
    decoding = Decoding(model, rows=2, prompt=7, steps=5)
    made = decoding()
    assert torch.equal(decoding(), made)
    text = torch.cat([tokens(model, 2, 7), decoding.first, made], 1)
    whole = model(input_ids=text).logits.argmax(-1)
    assert torch.equal(whole[:, 6:-1], text[:, 7:])
    composed.uninstall()


def test_work_is_counted_in_products_of_both_kinds() -> None:
    a, b, c = torch.ones(2, 3), torch.ones(3, 5), torch.ones(2, 5)
    assert multiply_adds(lambda: c.addmm_(a, b)) == multiply_adds(lambda: a @ b) == 2 * 3 * 5
    model = tiny_llama()
    alone = multiply_adds(lambda: prefill(model, tokens(model, 2, 8)))
    composed = routed(model, pool(model, 5, 4))
    more = multiply_adds(lambda: prefill(model, tokens(model, 2, 8))) - alone
    composed.uninstall()
    ranks, width, key_width = 5 * 4, 32, 16
    per_token = 4 * (width * ranks + width * 5) + ranks * (2 * width + 2 * key_width)
    assert more == 2 * 8 * 2 * per_token


def test_xlora_holds_the_same_experts(tmp_path: Path) -> None:
    model = tiny_llama()
    experts = pool(model, 3, 4)
    peer = xlora(copied(model), experts, tmp_path, top_k=2)
    layer = peer.base_model.lora_model.model.model.layers[1].self_attn.k_proj
    for index, expert in enumerate(experts):
        factors = expert.sites["model.layers.1.self_attn.k_proj"]
        assert torch.equal(layer.lora_A[str(index)].weight, factors.A)
        assert torch.equal(layer.lora_B[str(index)].weight, factors.B)
        assert layer.scaling[str(index)] == factors.scale
    ids = tiny_batch().input_ids
    with torch.no_grad():
        assert (peer(input_ids=ids).logits - model(input_ids=ids).logits).abs().max() > 1e-3
