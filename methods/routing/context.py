"""What one forward pass tells every routed layer: which tokens count, whose task it is, how far training is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from methods.routing.sides import EncoderSide, SideCounts, reads_encoder

CountedTokens = Literal["all_nonpad", "answer_only", "prompt_only"]


@dataclass
class RoutingContext:
    """Shared by all routed layers of one composed model.

    The engine drives `label_mask`, `domain`, `training`, `progress`, `prompt_mask` and `given_mask`; a hook on the
    model fills the rest before each forward pass.

    Attributes:
        token_mask: `[b, t]` booleans of the tokens of this forward pass that are not padding; None counts all.
        label_mask: `[b, t]` booleans of answer tokens (training only), for `stats_tokens`.
        prompt_mask: `[b, t']` booleans of prompt tokens, t' at most t (later tokens are not prompt), for methods that
            fix weights on the prompt (`Composed.kv_cache` False). None: in training the tokens outside `label_mask`,
            else all tokens of a pass that starts without a cache.
        given_mask: token mask for the next forward pass only, for inputs whose attention mask is not `[b, past + t]`.
        domain: `[b]` index of each sequence's own expert (training), or `[1, t]` of each token's where sequences are
            laid end to end (`Composed.packs`), or None; see `of_tokens`.
        task: name of the task being evaluated, or None while training.
        own_expert: index of the evaluated task's own expert, or None.
        training: whether losses are to be kept from this pass.
        progress: fraction of optimiser steps done, 0 to 1 (drives coefficient ramps).
        collect: whether layers accumulate diagnostics.
        input_ids: `[b, t]` token ids of this pass, or None when the model was given embeddings.
        position_ids: `[b, t]` positions in the sequence, padding not counted, as integers.
        past: tokens in the key-value cache before this pass; a tensor where the cache counts on its device. Read as
            `past_length`, which waits for the device then.
        shape: `[b, t]` of this pass.
        entered: whether this pass has told what its tokens are; False between the head's call and that.
        with_graph: whether this pass began with gradients enabled.
        device: where the model was given this pass's tokens; layers may be on others.
        encoder: the encoder's tokens of an encoder-decoder model; the context's own tokens are the decoder's then. None
            in other models.
        window: counted tokens of the accumulation window on the encoder's and on the decoder's side, for losses of
            encoder-decoder models; the engine's.
        listeners: objects whose `reset_diagnostics` is called when a task begins.
    """

    token_mask: Tensor | None = None
    label_mask: Tensor | None = None
    prompt_mask: Tensor | None = None
    given_mask: Tensor | None = None
    domain: Tensor | None = None
    task: str | None = None
    own_expert: int | None = None
    training: bool = False
    progress: float = 0.0
    collect: bool = False
    input_ids: Tensor | None = None
    position_ids: Tensor | None = None
    past: int | Tensor = 0
    shape: torch.Size | None = None
    entered: bool = True
    with_graph: bool = False
    device: torch.device | None = None
    encoder: EncoderSide | None = None
    window: tuple[int, int] | None = None
    listeners: list[object] = field(default_factory=list)

    @property
    def past_length(self) -> int:
        """Tokens in the key-value cache before this pass."""
        return int(self.past)

    @past_length.setter
    def past_length(self, length: int) -> None:
        self.past = length

    def side(self, site: str) -> Side:
        """What a site at a module path is told of a pass: the encoder's side where it reads the encoder's tokens."""
        if not reads_encoder(site):
            return self
        if self.encoder is None:
            self.encoder = EncoderSide(self)
        return self.encoder

    def side_counts(self, *, whole_window: bool) -> SideCounts | None:
        """Counted tokens of both sides of an encoder-decoder model's pass; None in other models."""
        if self.encoder is None or self.encoder.token_mask is None or self.token_mask is None:
            return None
        return SideCounts(self.encoder.token_mask, self.token_mask, self.window if whole_window else None)

    def begin_task(self, name: str, own: int | None) -> None:
        """Enter evaluation of one task; layers restart their statistics."""
        self.task, self.own_expert, self.collect, self.training = name, own, True, False
        for listener in self.listeners:
            reset = getattr(listener, "reset_diagnostics", None)
            if reset is not None:
                reset()

    def end_task(self) -> None:
        """Leave evaluation of a task; statistics stay readable until the next one."""
        self.task, self.own_expert, self.collect = None, None, False

    def counted(self, tokens: CountedTokens) -> Tensor | None:
        """`[b, t]` booleans of the tokens over which routing statistics are taken; None counts all.

        Raises:
            RuntimeError: answer or prompt tokens are asked for and `label_mask` is not set.
        """
        if tokens == "all_nonpad":
            return self.token_mask
        if self.label_mask is None:
            raise RuntimeError(f"stats_tokens={tokens} needs the label mask of the pass: set context.label_mask.")
        chosen = self.label_mask if tokens == "answer_only" else ~self.label_mask
        return chosen if self.token_mask is None else chosen & self.token_mask

    def prompt(self, shape: torch.Size, device: torch.device) -> Tensor:
        """`[b, t]` booleans of the prompt's tokens in this pass (see `prompt_mask`).

        The prompt of an encoder-decoder model is the encoder's; of the decoder's tokens the start token alone is there
        before the answer is.
        """
        if self.encoder is not None and self.position_ids is not None:
            mask = (self.position_ids.to(device) == 0).expand(shape)
        elif self.prompt_mask is not None:
            mask = torch.zeros(shape, dtype=torch.bool, device=device)
            mask[:, : self.prompt_mask.shape[1]] = self.prompt_mask.to(device)
        elif self.training and self.label_mask is not None:
            mask = ~self.label_mask.to(device)
        else:
            mask = torch.ones(shape, dtype=torch.bool, device=device)
        return mask if self.token_mask is None else mask & self.token_mask.to(device)


def of_tokens(domain: Tensor) -> Tensor:
    """Indices of own experts (`RoutingContext.domain`) as `[b, 1]` or `[1, t]`, to be held against tokens `[b, t]`."""
    return domain if domain.dim() == 2 else domain.unsqueeze(1)


Side = RoutingContext | EncoderSide
"""What a router knows of a pass: the context itself, or the encoder's side of it."""
