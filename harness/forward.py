"""Logits only where they are needed.

On a small model the vocabulary projection is up to half of the arithmetic, and most positions are never scored. The
rows of the head's input are selected by a pre-hook on the head, so the model's own forward stays the entry point and
whatever it does to logits afterwards (soft-capping, scaling) still happens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def logits_at(model: nn.Module, rows: Tensor, **inputs: Any) -> tuple[Tensor, Any]:
    """Run `model(**inputs)` and return the logits of the selected positions.

    Args:
        model: a transformers model with a language-model head.
        rows: `[b, t]` booleans; m of them true.
        inputs: passed to the model's forward.

    Returns:
        Logits `[m, vocabulary]` in row-major order of `rows`, and the model's whole output.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    handle = None
    if isinstance(head, nn.Module):
        handle = head.register_forward_pre_hook(lambda _module, args: (args[0][rows], *args[1:]))
    try:
        output = model(**inputs)
    finally:
        if handle is not None:
            handle.remove()
    logits: Tensor = output.logits
    # A head that is applied functionally never fires the hook: then the full logits came back.
    return (logits if logits.dim() == 2 else logits[rows]), output


def target_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats of `[m, vocabulary]` logits against `[m]` targets, computed in at least float32."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return nn.functional.cross_entropy(logits, targets, reduction="sum")
