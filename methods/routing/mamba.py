"""State-space mixers (Mamba, Falcon-Mamba) that call their four projections as modules.

transformers' mixers multiply with the raw weight of `dt_proj`, and hand those of `x_proj` and `out_proj` to fused
kernels, so a layer in a projection's place would be bypassed without a word. While a method is installed, its model's
mixers run the forward below instead. It computes what the library computes without kernels (arXiv 2312.00752,
algorithm 2) with the library's types, except that float64 is never rounded to float32, and keeps its states in the
library's cache.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.routing.providers import wide

MODEL_TYPES = frozenset({"mamba", "falcon_mamba"})
PROJECTIONS = ("in_proj", "x_proj", "dt_proj", "out_proj")

CHUNK = 64
"""Tokens whose decays and inputs are formed at once, which bounds their memory; results do not depend on it."""


def is_state_space(model_config: Any) -> bool:
    """Whether models of this `transformers` configuration have the mixers that are known here."""
    return getattr(model_config, "model_type", None) in MODEL_TYPES


def mixers_of(model: nn.Module) -> list[Any]:
    """The mixers of a state-space model that run `mixer_forward` while a method is installed; none in other models."""
    known = is_state_space(getattr(model, "config", None))
    return [module for module in model.modules() if _is_mixer(module)] if known else []


class ProjectionCalls:
    """Lets the mixers of a state-space model call their projections, until undone; other models stay as they are."""

    def __init__(self, model: nn.Module) -> None:
        mixers = mixers_of(model)
        self._before = [(mixer, mixer.__dict__.get("forward")) for mixer in mixers]
        for mixer in mixers:
            mixer.forward = MethodType(mixer_forward, mixer)

    def undo(self) -> None:
        """Give every mixer the forward back that it had."""
        for mixer, forward in self._before:
            del mixer.forward
            if forward is not None:
                mixer.forward = forward
        self._before = []


def _is_mixer(module: nn.Module) -> bool:
    return hasattr(module, "A_log") and all(hasattr(module, name) for name in PROJECTIONS)


def mixer_forward(
    mixer: Any, hidden_states: Tensor, cache_params: Any = None, attention_mask: Tensor | None = None, **_: Any
) -> Tensor:
    """The forward of one mixer, `[b, t, hidden]` to the same shape.

    Args:
        mixer: a transformers `MambaMixer` or `FalconMambaMixer`.
        hidden_states: its input.
        cache_params: transformers' cache with the states after earlier tokens, continued in place; None for none.
        attention_mask: `[b, t]`, or longer with these tokens last; hides padding on the left.
    """
    dtype, length, index = hidden_states.dtype, hidden_states.shape[1], mixer.layer_idx
    mask = None if attention_mask is None else attention_mask[:, -length:, None]
    # Before the convolution's state is written, which marks both states as present.
    state = None if cache_params is None else cache_params.get_recurrent_state(index, state_idx=0)

    x, gate = mixer.in_proj(_masked(hidden_states, mask)).chunk(2, -1)
    x = _masked(_convolve(mixer, x, cache_params), mask)
    dt, B, C = mixer.x_proj(x).split([mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size], -1)
    if hasattr(mixer, "dt_layernorm"):
        dt, B, C = mixer.dt_layernorm(dt), mixer.b_layernorm(B), mixer.c_layernorm(C)
    dt = F.softplus(mixer.dt_proj(dt))
    y, state = selective_scan(x, dt, -torch.exp(wide(mixer.A_log)), B, C, state)
    if cache_params is not None:
        cache_params.update_recurrent_state(state, index)
    y = (y + x * wide(mixer.D)) * F.silu(gate)
    out: Tensor = mixer.out_proj(y.to(dtype))
    return out


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else (x * mask).to(x.dtype)


def _convolve(mixer: Any, x: Tensor, cache: Any) -> Tensor:
    """Causal convolution and activation of every channel of `[b, t, d]`, after the tokens in the cache."""
    seen, width = x.transpose(1, 2), mixer.conv_kernel_size
    if cache is not None:
        seen = cache.update_conv_state(seen, mixer.layer_idx, conv_kernel_size=width)
    seen = F.pad(seen[..., -(x.shape[1] + width - 1) :], (width - 1, 0))
    out = F.conv1d(seen.to(mixer.conv1d.weight.dtype), mixer.conv1d.weight, mixer.conv1d.bias, groups=seen.shape[1])
    activated: Tensor = mixer.act(out[..., -x.shape[1] :]).to(x.dtype)
    return activated.transpose(1, 2)


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`h_t = exp(A dt_t) h_{t-1} + dt_t B_t x_t` and `y_t = C_t h_t` for every channel.

    Args:
        x: `[b, t, d]`.
        dt: step sizes `[b, t, d]`.
        A: `[d, n]`, negative.
        B: `[b, t, n]`.
        C: `[b, t, n]`.
        state: h before the first token, `[b, d, n]`; None for zero.

    Returns:
        y `[b, t, d]` and h after the last token, `[b, d, n]`.
    """
    outputs = []
    for piece in (slice(start, start + CHUNK) for start in range(0, x.shape[1], CHUNK)):
        step = dt[:, piece].unsqueeze(-1)
        decay = torch.exp(A * step)
        drive = step * wide(B[:, piece]).unsqueeze(2) * wide(x[:, piece]).unsqueeze(-1)
        states = []
        # Unbound, not indexed: the gradient of an index is as large as the whole.
        for kept, added in zip(decay.unbind(1), drive.unbind(1), strict=True):
            state = added if state is None else torch.addcmul(added, kept, state.to(added.dtype))
            states.append(state)
        outputs.append((torch.stack(states, 1).to(x.dtype) @ C[:, piece].unsqueeze(-1)).squeeze(-1))
    assert state is not None
    return torch.cat(outputs, 1), state
