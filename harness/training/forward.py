"""Logits only where they are needed.

On a small model the vocabulary projection is up to half of the arithmetic, and most positions are never scored. The
rows of the head's input are selected by a pre-hook on the head, so the model's own forward stays the entry point and
whatever it does to logits afterwards (soft-capping, scaling) still happens.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    # Routers look tokens up by their places, so a routed head is given them all.
    if isinstance(head, nn.Module) and not getattr(head, "whole", False):
        handle = head.register_forward_pre_hook(lambda _module, args: (args[0][rows.to(args[0].device)], *args[1:]))
    try:
        output = model(**inputs)
    finally:
        if handle is not None:
            handle.remove()
    logits: Tensor = output.logits
    # A head that is routed, or applied functionally and never fires the hook: the full logits came back.
    return (logits if logits.dim() == 2 else logits[rows.to(logits.device)]), output


def is_seq2seq(model: nn.Module) -> bool:
    """Whether a transformers model has an encoder beside its decoder."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def target_logits(forward: nn.Module, model: Any, part: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits `[m, vocabulary]` of a collated micro-batch's target tokens, and the targets `[m]`.

    Args:
        forward: the module that is called: the model, or a wrapper of it.
        model: the transformers model; causal, or an encoder-decoder whose decoder gets the targets shifted right.
        part: what `harness.training.data.collate` made of the rows.
    """
    labels, targets = part["labels"], scored(model, part)
    given = {"input_ids": part["input_ids"], "attention_mask": part["attention_mask"], "use_cache": False}
    if is_seq2seq(model):
        # The mask matters to routing alone: attention is causal and padding comes last.
        shifted = model.prepare_decoder_input_ids_from_labels(labels)
        logits, _ = logits_at(
            forward, targets, **given, decoder_input_ids=shifted, decoder_attention_mask=targets.long()
        )
        return logits, labels[targets]
    # The first column has no target, so that nothing is rolled into the last.
    logits, _ = logits_at(forward, targets.roll(-1, 1), **given)
    return logits, labels[targets]


def scored(model: nn.Module, part: Mapping[str, Tensor]) -> Tensor:
    """`[b, t]` booleans of the target tokens of a micro-batch (`collate` or `laid` of the rows) that have a loss: a
    causal model says nothing of a row's first token."""
    targets = part["labels"] != -100
    if is_seq2seq(model):
        return targets
    if "lengths" in part:
        return targets & (part["position_ids"] > 0)
    targets[:, 0] = False
    return targets


def target_count(model: nn.Module, part: Mapping[str, Tensor]) -> int:
    """Targets of a micro-batch that `target_logits` scores."""
    return int(target_counts(model, part).sum())


def target_counts(model: nn.Module, part: Mapping[str, Tensor]) -> Tensor:
    """The same by row, `[b]`."""
    targets = scored(model, part)
    if "lengths" in part:
        return torch.stack([own.sum() for own in targets[0].split(part["lengths"].tolist())])
    return targets.sum(1)


def target_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Summed cross-entropy in nats of `[m, vocabulary]` logits against `[m]` targets, computed in at least float32.

    `weights` `[m]` multiply the summands.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if weights is None:
        return nn.functional.cross_entropy(logits, targets, reduction="sum")
    return nn.functional.cross_entropy(logits, targets, reduction="none") @ weights.to(logits)
