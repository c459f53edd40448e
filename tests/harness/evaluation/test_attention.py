"""Shared-prefix attention equals attention over whole sequences."""

from __future__ import annotations

import pytest
import torch

from harness.evaluation.attention import Fresh, Pass, attend, attend_plainly, shared_attention, shared_prefix_attention


class Config:
    _attn_implementation = "sdpa"


class Layer(torch.nn.Module):
    layer_idx = 0


@pytest.mark.parametrize(("causal", "masked"), [(False, False), (False, True), (True, False)])
def test_both_forms_of_attention_agree(causal: bool, masked: bool) -> None:
    torch.manual_seed(0)
    query, keys, values = (torch.randn(3, 2, 5, 8, dtype=torch.float64) for _ in range(3))
    mask = torch.where(torch.rand(3, 1, 5, 5) < 0.4, float("-inf"), 0.0).double() if masked else None
    if mask is not None:
        mask[..., 0] = 0.0
    fast = attend(query, keys, values, mask, scale=0.3, causal=causal)
    for most in (1 << 20, 70):
        plain = attend_plainly(query, keys, values, mask, scale=0.3, causal=causal, most_scores=most)
        for one, other in zip(fast, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("prefix", [0, 7])
@pytest.mark.parametrize("tree", [False, True])
def test_prefix_and_own_keys_make_one_softmax(kv_heads: int, prefix: int, tree: bool) -> None:
    rows, heads, length, width = 3, 4, 5, 8
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    query, keys, values = random(rows, heads, length, width), *(random(rows, kv_heads, length, width) for _ in "kv")
    above = [(random(1, kv_heads, prefix, width), random(1, kv_heads, prefix, width))] if prefix else []
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    if tree:
        visible[3:, 1:3] = False
    mask = torch.zeros(length, length, dtype=torch.float64).masked_fill(~visible, float("-inf"))
    trunk = 3 if tree else length
    current = Pass(Fresh(), above, trunk, mask[trunk:].expand(rows, 1, -1, length) if tree else None, past=prefix)
    config = Config()
    with shared_attention([config], current):
        assert config._attn_implementation == "shared_prefix"
        got, _ = shared_prefix_attention(Layer(), query, keys, values, None, scaling=0.4)
    assert config._attn_implementation == "sdpa"

    whole = [keys, values]
    if prefix:
        whole = [torch.cat([a.expand(rows, -1, -1, -1), b], dim=2) for a, b in zip(above[0], whole, strict=True)]
    repeated = [part.repeat_interleave(heads // kv_heads, dim=1) for part in whole]
    full = torch.cat([torch.zeros(length, prefix, dtype=torch.float64), mask], dim=1)
    expected, _ = attend_plainly(query, *repeated, full[None, None], scale=0.4)
    torch.testing.assert_close(got, expected.transpose(1, 2), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_query_heads_that_share_a_key_head_read_it_where_it_is(causal: bool) -> None:
    """The same outputs and gradients as with keys copied for every head."""
    torch.manual_seed(0)
    leaves = [torch.randn(2, heads, 5, 8, dtype=torch.float64, requires_grad=True) for heads in (6, 2, 2)]
    upstream = torch.randn(2, 6, 5, 8, dtype=torch.float64)
    query, keys, values = leaves
    copied = query, keys.repeat_interleave(3, 1), values.repeat_interleave(3, 1)
    found = []
    for form, (q, k, v) in ((attend, leaves), (attend_plainly, leaves), (attend, copied), (attend_plainly, copied)):
        out, lse = form(q, k, v, None, scale=0.3, causal=causal)
        found.append([out, lse, *torch.autograd.grad(out, leaves, upstream, retain_graph=True)])
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, same, rtol=1e-11, atol=1e-11)
