"""The two token sequences of an encoder-decoder model, and which of them a site reads.

The encoder's layers see the encoder's tokens, the decoder's see the decoder's, and the keys and values of
cross-attention, though in the decoder, are computed from the encoder's states: once, since the model caches them while
it decodes. The decoder's tokens are the context's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

_CROSS = (".EncDecAttention.k", ".EncDecAttention.v")


def reads_encoder(site: str) -> bool:
    """Whether the module at a path of an encoder-decoder model gets the encoder's tokens; False in other models."""
    return site.startswith("encoder.") or site.endswith(_CROSS)


class Owner(Protocol):
    """What both sides share of a pass; see `methods.routing.context.RoutingContext`, which is one."""

    training: bool
    collect: bool
    domain: Tensor | None
    entered: bool
    with_graph: bool
    device: torch.device | None


class EncoderSide:
    """What a pass says about the encoder's tokens; everything that is not about tokens is the owner's.

    Attributes:
        token_mask: `[b, t]` booleans of the encoder's tokens that are not padding.
        input_ids: `[b, t]`, or None when the model was given embeddings.
        position_ids: `[b, t]`, padding not counted.
        past_length: 0, since the encoder keeps no cache.
        shape: `[b, t]` of the encoder's pass.
    """

    past_length = 0

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.token_mask: Tensor | None = None
        self.input_ids: Tensor | None = None
        self.position_ids: Tensor | None = None
        self.shape: torch.Size | None = None

    @property
    def entered(self) -> bool:
        """The owner's."""
        return self.owner.entered

    @property
    def with_graph(self) -> bool:
        """The owner's."""
        return self.owner.with_graph

    @property
    def device(self) -> torch.device | None:
        """The owner's."""
        return self.owner.device

    @property
    def training(self) -> bool:
        """The owner's."""
        return self.owner.training

    @property
    def collect(self) -> bool:
        """The owner's."""
        return self.owner.collect

    @property
    def domain(self) -> Tensor | None:
        """The owner's."""
        return self.owner.domain

    def prompt(self, shape: torch.Size, device: torch.device) -> Tensor:
        """`[b, t]` booleans: the encoder is given the prompt and nothing else."""
        mask = torch.ones(shape, dtype=torch.bool, device=device)
        return mask if self.token_mask is None else mask & self.token_mask.to(device)


@dataclass(frozen=True)
class SideCounts:
    """Counted tokens of one micro-batch on both sides.

    An accumulation window weights micro-batches by their tokens on both sides together, and a router's mean is over
    its own side: `weights` corrects for that, so that means over a window do not depend on how it is cut.

    Attributes:
        encoder: `[b, t]` booleans.
        decoder: `[b, t']` booleans.
        window: tokens of the whole window on either side (encoder, decoder); None where the micro-batch stands alone.
    """

    encoder: Tensor
    decoder: Tensor
    window: tuple[int, int] | None = None

    @cached_property
    def tokens(self) -> Tensor:
        """Number of counted tokens on both sides, a scalar."""
        return self.encoder.sum() + self.decoder.sum()

    def weights(self, encoder: bool, dtype: torch.dtype) -> Tensor:
        """What values at the tokens of one side are multiplied with, so that their sum is their mean."""
        mask = self.encoder if encoder else self.decoder
        if self.window is None:
            return mask.to(dtype) / mask.sum().clamp(min=1)
        own = self.window[0 if encoder else 1]
        return mask.to(dtype) * (sum(self.window) / own / self.tokens.to(dtype))
