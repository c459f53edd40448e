"""Attention of many rows over one shared prefix and each row's own keys, in exact arithmetic.

The prefix is read once for all rows instead of being copied into each row's cache: the softmax over both parts is put
together from the two parts' outputs and log-sum-exps (as in Hydragen, arXiv 2402.05099). It is registered with
transformers as an attention implementation, which a model uses inside `shared_attention`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

NAME = "shared_prefix"

KeysValues = list[tuple[Tensor, Tensor]]
"""Keys and values `[b, h, t, d]` of every layer."""


class CannotShare(ValueError):
    """The model's attention has a part that the shared form does not compute; its text names that part."""


class Own(Protocol):
    """Where the rows' own keys and values are."""

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take those of this pass, `[b, h, t, d]`; return all that its queries may see, `[b, h, L, d]`."""


class Fresh:
    """Rows without a past: their keys are those of this pass, kept in `layers`."""

    def __init__(self) -> None:
        self.layers: KeysValues = []

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `Own`."""
        if layer != len(self.layers):
            raise CannotShare("layers that share or reorder their caches")
        self.layers.append((keys, values))
        return keys, values


class Packing:
    """Rows of different lengths laid end to end, `[1, h, T, d]`, and as a padded batch, `[n, h, t, d]`.

    The model computes them packed, without padding; only a row's attention to itself needs the batch.

    Args:
        lengths: tokens of each row.
        place: `[n, t]` packed index of every cell of the batch; any index where the cell is padding.
        back: `[T]` cell, counted row by row, of every packed index.
    """

    def __init__(self, lengths: Sequence[int], place: Tensor, back: Tensor) -> None:
        self.lengths = list(lengths)
        self.place = place
        self.back = back

    def unpack(self, packed: Tensor) -> Tensor:
        """`[1, h, T, d]` to `[n, h, t, d]`."""
        return packed[0][:, self.place.to(packed.device)].transpose(0, 1)

    def pack(self, batch: Tensor) -> Tensor:
        """`[n, h, t, ...]` to `[1, h, T, ...]`."""
        return batch.transpose(1, 2).flatten(0, 1)[self.back.to(batch.device)].transpose(0, 1).unsqueeze(0)


@dataclass
class Pass:
    """What one forward pass attends to.

    Attributes:
        own: the rows' own keys and values.
        prefix: the shared ones, `[1, h, P, d]` for every layer; empty without a prefix.
        trunk: leading columns of the rows that are chains from their start, with padding on the right of the chain.
        mask: `[n, 1, t - trunk, L]`, added to the scores that the columns after the trunk have with own keys.
        packing: None where the model's batch is the batch of rows.
        past: tokens before this pass (prefix and own), as the model is told.
        shift: added to the model's number of a layer, where several experts have layers of their own one after another.
    """

    own: Own
    prefix: KeysValues = field(default_factory=list)
    trunk: int = 0
    mask: Tensor | None = None
    packing: Packing | None = None
    past: int = 0
    shift: int = 0


class PassCache(Cache):
    """The cache that transformers' layers talk to during one `Pass`.

    Args:
        current: the pass.
        layers: of the model.
        expert: whose keys and values they are, where several experts take the pass one after another.
    """

    def __init__(self, current: Pass, layers: int, expert: int = 0) -> None:
        super().__init__(layers=[])
        self.current = current
        self.n_layers = layers
        self.shift = expert * layers

    def for_expert(self, index: int) -> PassCache:
        """The same pass for the n-th of several experts, with keys and values of its own."""
        return PassCache(self.current, self.n_layers, index)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Hand keys and values to the pass."""
        self.current.shift = self.shift
        return self.current.own.update(layer_idx + self.shift, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this pass."""
        return self.current.past

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of the mask that the model would build; it is not used."""
        return self.current.past + query_length, 0


_CURRENT: ContextVar[Pass] = ContextVar("current pass of shared-prefix attention")


@contextmanager
def shared_attention(configs: Sequence[Any], current: Pass) -> Iterator[None]:
    """Let models with these configurations attend as `current` says."""
    before = [config._attn_implementation for config in configs]
    token = _CURRENT.set(current)
    try:
        for config in configs:
            config._attn_implementation = NAME
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation
        _CURRENT.reset(token)


def attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Softmax attention with its normaliser.

    Args:
        query: `[b, H, t, d]`.
        keys: `[b, h, L, d]`, H a multiple of h.
        values: `[b, h, L, d]`.
        mask: added to the scores, `[b or 1, h or 1, t, L]`.
        scale: multiplies the scores before the mask.
        causal: query i sees keys up to i (needs L = t).

    Returns:
        Output `[b, H, t, d]` and the scores' log-sum-exp `[b, H, t]`.
    """
    if query.device.type == "cpu" and keys.shape[-1] == values.shape[-1]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = kernel(query, keys, values, 0.0, causal, attn_mask=mask, scale=scale)
        return out, lse
    return attend_plainly(query, keys, values, mask, scale=scale, causal=causal)


def attend_plainly(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    causal: bool = False,
    most_scores: int = 1 << 26,
) -> tuple[Tensor, Tensor]:
    """`attend` as it is defined, on any device, over so many queries at once that `most_scores` scores are held.

    Scores are at least float32.
    """
    parts = []
    groups = query.shape[1] // keys.shape[1]
    if groups > 1:
        keys, values = (part.repeat_interleave(groups, dim=1) for part in (keys, values))
    length, width = query.shape[2], keys.shape[2]
    block = max(1, most_scores // (query.shape[0] * query.shape[1] * width))
    for start in range(0, length, block):
        some = query[:, :, start : start + block]
        scores = (some @ keys.transpose(-1, -2)).to(torch.promote_types(query.dtype, torch.float32)) * scale
        if mask is not None:
            scores = scores + mask[:, :, start : start + block]
        if causal:
            order = torch.ones(some.shape[2], width, dtype=torch.bool, device=query.device).tril(start)
            scores = scores.masked_fill(~order, float("-inf"))
        parts.append((scores.softmax(-1).to(values.dtype) @ values, scores.logsumexp(-1)))
    if len(parts) == 1:
        return parts[0]
    outs, normalisers = zip(*parts, strict=True)
    return torch.cat(outs, dim=2), torch.cat(normalisers, dim=2)


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function of transformers' interface: query `[b, H, t, d]`, own keys `[b, h, L, d]`, out `[b, t, H, d]`.

    Raises:
        CannotShare: soft-capped scores, attention sinks or position biases.
    """
    for extra in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(extra) is not None:
            raise CannotShare(f"attention with {extra}")
    current = _CURRENT.get()
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if current.packing is None:
        out, lse = _attend_own(query, key, value, current, scale)
    elif torch.is_grad_enabled() and current.mask is None:
        out, lse = _attend_rows(query, key, value, current.packing.lengths, scale)
    else:
        unpack, pack = current.packing.unpack, current.packing.pack
        out, lse = _attend_own(unpack(query), unpack(key), unpack(value), current, scale)
        out, lse = pack(out), pack(lse)
    if current.prefix:
        layer: Any = module.layer_idx
        prefix_keys, prefix_values = current.prefix[layer + current.shift]
        above, above_lse = _attend_prefix(query, prefix_keys, prefix_values, scale)
        share = torch.sigmoid(above_lse - lse).unsqueeze(-1).to(out.dtype)
        out = torch.lerp(out, above, share)
    return out.transpose(1, 2).contiguous(), None


def _attend_rows(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """Packed chains `[1, h, T, d]`, one after the other: slices need no copy, which a batch does in both directions."""
    rows = zip(*(part.split(lengths, 2) for part in (query, key, value)), strict=True)
    outs, normalisers = zip(*(attend(q, k, v, None, scale=scale, causal=True) for q, k, v in rows), strict=True)
    return torch.cat(outs, 2), torch.cat(normalisers, 2)


def _attend_own(query: Tensor, key: Tensor, value: Tensor, current: Pass, scale: float) -> tuple[Tensor, Tensor]:
    """Each row's queries `[n, H, t, d]` over its own keys `[n, h, L, d]`."""
    rows, heads, length, width = query.shape
    kv_heads, trunk = key.shape[1], current.trunk
    groups = heads // kv_heads
    parts = []
    if trunk:
        q, k, v = (part[:, :, :trunk] for part in (query, key, value))
        parts.append(attend(q, k, v, None, scale=scale, causal=True))
    if trunk < length:
        assert current.mask is not None
        # Queries of all heads that share a key head lie side by side, so that no key is copied.
        folded = query[:, :, trunk:].reshape(rows, kv_heads, -1, width)
        # A model that is spread has layers on other devices than its inputs.
        mask = current.mask.to(query.device).repeat(1, 1, groups, 1)
        out, lse = attend(folded, key, value, mask, scale=scale)
        parts.append((out.reshape(rows, heads, length - trunk, -1), lse.reshape(rows, heads, -1)))
    if len(parts) == 1:
        return parts[0]
    (one, one_lse), (other, other_lse) = parts
    return torch.cat([one, other], dim=2), torch.cat([one_lse, other_lse], dim=2)


def _attend_prefix(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """All rows' queries `[n, H, t, d]` over keys `[1, h, P, d]` that they share."""
    rows, heads, length, width = query.shape
    kv_heads = keys.shape[1]
    folded = query.reshape(rows, kv_heads, -1, width).transpose(0, 1).reshape(1, kv_heads, -1, width)
    out, lse = attend(folded, keys, values, None, scale=scale)
    out = out.reshape(kv_heads, rows, -1, out.shape[-1]).transpose(0, 1)
    lse = lse.reshape(kv_heads, rows, -1).transpose(0, 1)
    return out.reshape(rows, heads, length, -1), lse.reshape(rows, heads, length)


def _no_mask(*_args: Any, **_kwargs: Any) -> None:
    return None


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionMaskInterface.register(NAME, _no_mask)
