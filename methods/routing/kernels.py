"""Routing of frozen experts as one GPU kernel in place of a chain of small ones, for passes without gradients.

Between the product with all A and the products with B stand a top-k, a softmax, a scatter and a product, each too small
to hide its launch. Where few tokens are decoded the product with B is in the kernel too. Sums are taken in another
order than torch's, so that results are equal up to rounding; of experts with equal logits the earlier is kept.

This module needs Triton, which comes with torch for CUDA; `methods.routing.groups` imports it when it is asked for. Its
compiler looks up what arguments are annotated with, and takes names of its own alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

FEW = 16
"""Tokens up to which the product with B is in the kernel."""
_COLUMNS = 64


@triton.jit
def _weights(
    logits: tl.tensor,
    experts: tl.constexpr,
    kept: tl.constexpr,
    renorm: tl.constexpr,
    block: tl.constexpr,
    rounded: tl.constexpr,
) -> Any:
    """Weights `[block]` of one token and router from its logits; 0 beyond the experts."""
    n = tl.arange(0, block)
    present = n < experts
    own = tl.load(logits + n, mask=present, other=float("-inf")).to(tl.float32)
    mine, other = own[:, None], own[None, :]
    before = (other > mine) | ((other == mine) & (n[None, :] < n[:, None]))
    chosen = (tl.sum(before.to(tl.int32), axis=1) < kept) & present
    mass = tl.exp(own - tl.max(own, axis=0))
    chosen_mass = tl.where(chosen, mass, 0.0)
    w = chosen_mass / tl.sum(chosen_mass if renorm else mass, axis=0)
    # Rounded to the type that they are applied in, as elsewhere; the product is taken in float32 and rounded once.
    return w.to(rounded).to(tl.float32)


@triton.jit
def _weigh(
    h: tl.tensor,
    logits: tl.tensor,
    h_stride: tl.tensor,
    logits_stride: tl.tensor,
    routers: tl.constexpr,
    experts: tl.constexpr,
    rank: tl.constexpr,
    kept: tl.constexpr,
    renorm: tl.constexpr,
    block_n: tl.constexpr,
    block_r: tl.constexpr,
) -> None:
    """Programs: tokens, sites."""
    token, site = tl.program_id(0).to(tl.int64), tl.program_id(1)
    router = site if routers > 1 else 0
    w = _weights(logits + token * logits_stride + router * experts, experts, kept, renorm, block_n, h.dtype.element_ty)
    n, r = tl.arange(0, block_n)[:, None], tl.arange(0, block_r)[None, :]
    at = h + token * h_stride + site * experts * rank + n * rank + r
    inside = (n < experts) & (r < rank)
    tl.store(at, tl.load(at, mask=inside, other=0.0).to(tl.float32) * w[:, None], mask=inside)


@triton.jit
def _weigh_and_add(
    y: tl.tensor,
    h: tl.tensor,
    logits: tl.tensor,
    B: tl.tensor,
    y_stride: tl.tensor,
    h_stride: tl.tensor,
    logits_stride: tl.tensor,
    width: tl.tensor,
    experts: tl.constexpr,
    rank: tl.constexpr,
    kept: tl.constexpr,
    renorm: tl.constexpr,
    block_n: tl.constexpr,
    block_r: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    """Programs: tokens, blocks of output columns."""
    token = tl.program_id(0).to(tl.int64)
    w = _weights(logits + token * logits_stride, experts, kept, renorm, block_n, h.dtype.element_ty)
    n, r = tl.arange(0, block_n)[:, None], tl.arange(0, block_r)[None, :]
    inside = (n < experts) & (r < rank)
    own = tl.load(h + token * h_stride + n * rank + r, mask=inside, other=0.0).to(tl.float32) * w[:, None]
    own = own.to(h.dtype.element_ty).to(tl.float32)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    within = column < width
    at = B + (n * rank + r)[:, :, None] * width + column[None, None, :]
    block = tl.load(at, mask=inside[:, :, None] & within[None, None, :], other=0.0).to(tl.float32)
    update = tl.sum(tl.sum(own[:, :, None] * block, axis=1), axis=0)
    out = y + token * y_stride + column
    tl.store(out, tl.load(out, mask=within, other=0.0).to(tl.float32) + update, mask=within)


def takes(x: Tensor) -> bool:
    """Whether the kernels compute for an input: one on a GPU, and not in double precision."""
    return x.dtype != torch.float64 and (x.is_cuda or triton.knobs.runtime.interpret)


def weigh(h: Tensor, logits: Tensor, experts: int, sites: int, kept: int, renorm: bool) -> None:
    """Multiply shrunk inputs by their experts' weights, in place.

    Args:
        h: `[tokens, sites * experts * rank]`, last dimension dense.
        logits: `[tokens, K * experts]`, last dimension dense; K is 1 or the number of sites.
        experts: N.
        sites: S.
        kept: experts that are kept of each token, at most N.
        renorm: whether the weights of the kept sum to 1, see `Sparsifier.renorm`.
    """
    rank = h.shape[1] // (sites * experts)
    routers = logits.shape[1] // experts
    shape: dict[str, Any] = _shape(experts, rank, kept, renorm)
    with _device(h):
        _weigh[(len(h), sites)](h, logits, h.stride(0), logits.stride(0), routers=routers, num_warps=1, **shape)


def weigh_and_add(y: Tensor, h: Tensor, logits: Tensor, B: Tensor, kept: int, renorm: bool) -> None:
    """`y += (w h) B` of one site, in place, for a few tokens; `h` stays as it is.

    Args:
        y: `[tokens, d_out]`, last dimension dense.
        h: shrunk inputs `[tokens, experts * rank]`, likewise.
        logits: `[tokens, experts]`, likewise.
        B: `[experts * rank, d_out]`, dense.
        kept: see `weigh`.
        renorm: see `weigh`.
    """
    experts, width = logits.shape[1], y.shape[1]
    shape: dict[str, Any] = _shape(experts, h.shape[1] // experts, kept, renorm)
    grid = (len(y), triton.cdiv(width, _COLUMNS))
    strides = y.stride(0), h.stride(0), logits.stride(0)
    with _device(h):
        _weigh_and_add[grid](y, h, logits, B, *strides, width, columns=_COLUMNS, num_warps=4, **shape)


def _device(h: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current GPU, whichever the tensors are on."""
    return torch.cuda.device(h.device) if h.is_cuda else nullcontext()


def _shape(experts: int, rank: int, kept: int, renorm: bool) -> dict[str, int | bool]:
    """Compile-time sizes; blocks are powers of two."""
    blocks = {"block_n": triton.next_power_of_2(experts), "block_r": triton.next_power_of_2(rank)}
    return {"experts": experts, "rank": rank, "kept": kept, "renorm": renorm, **blocks}
