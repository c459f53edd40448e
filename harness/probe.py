"""Proof that a composed model left the base as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from methods.routing.frozen import input_device

if TYPE_CHECKING:
    from harness.models import BaseModel


class BaseChangedError(RuntimeError):
    """A method did not restore the base model; later rows would not be comparable."""


@contextmanager
def clean_base(base: BaseModel) -> Iterator[None]:
    """Compare the base's logits on a fixed probe before and after the block, to the bit.

    Raises:
        BaseChangedError: they differ, unless the block itself raised.
    """
    before = probe_logits(base)
    yield
    after = probe_logits(base)
    if not torch.equal(before, after):
        raise BaseChangedError("the base model's logits changed: a method did not uninstall cleanly")


@torch.inference_mode()
def probe_logits(base: BaseModel) -> Tensor:
    """Logits of eight fixed tokens."""
    model = base.model
    ids = torch.arange(8, device=input_device(model))[None] + 3
    extra = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **extra).logits
    return logits.clone()
