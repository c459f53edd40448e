"""Training sequences laid end to end: no padding is computed, and the gradient is that of the padded batch.

Positions start anew with every sequence and each attends to itself alone, so nothing but rounding differs.
Only for models and settings in which a sequence's own tokens are all that its logits depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.evaluation.attention import CannotShare
from harness.evaluation.passes import SharedPasses
from harness.evaluation.paths import deviation, longest_shared, obstacle
from harness.evaluation.tree import Row
from harness.training.data import Encoded
from harness.training.forward import target_cross_entropy
from methods.routing.frozen import input_device

if TYPE_CHECKING:
    from harness.models import BaseModel

PASS_TOKENS = 512
"""Tokens of one pass aimed at: in larger ones activations leave the processor's cache between two products."""


def packing_passes(base: BaseModel, rows: Sequence[Encoded]) -> SharedPasses | None:
    """Passes that can train a model on packed rows, or None where they would not give the padded gradient.

    None on accelerators too, where the attention used here keeps all scores for the backward pass.
    """
    model: Any = base.model
    if input_device(model).type != "cpu" or obstacle(model) is not None or _drops_attention(model):
        return None
    longest = longest_shared(model)
    if longest is not None and max(map(len, rows)) > longest:
        return None
    if model not in _PROBED:
        try:
            with torch.no_grad():
                _PROBED[model] = deviation(model, base.tokenizer) is None
        except CannotShare:
            _PROBED[model] = False
    return SharedPasses(model) if _PROBED[model] else None


_PROBED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether a clean base's packed passes give its own logits; a pool of experts asks once."""


def _drops_attention(model: nn.Module) -> bool:
    config: Any = model.config
    return bool(getattr(config.get_text_config(decoder=True), "attention_dropout", 0.0))


def packed_batches(window: Sequence[Encoded], size: int, tokens: int = PASS_TOKENS) -> list[list[Encoded]]:
    """Cut a window into batches of at most `size` rows and about `tokens` tokens each."""
    total = sum(map(len, window))
    count = max(-(-len(window) // size), round(total / tokens), 1)
    batches: list[list[Encoded]] = [[] for _ in range(count)]
    for row in sorted(window, key=len, reverse=True):
        open_ones = [batch for batch in batches if len(batch) < size]
        min(open_ones, key=lambda batch: sum(map(len, batch))).append(row)
    return [batch for batch in batches if batch]


def packed_backward(
    passes: SharedPasses, batches: Sequence[Sequence[Encoded]], backward: Callable[[Tensor], None]
) -> dict[str, float]:
    """Accumulate the gradient of one optimiser step, whose loss is the cross-entropy per target token of the window.

    Args:
        passes: of the model that is trained.
        batches: the window, cut.
        backward: called with each batch's share of the loss.

    Returns:
        The terms of `training.window_backward`, without auxiliary losses.
    """
    targets = sum(_scored(row) for batch in batches for row in batch)
    total = 0.0
    for batch in batches:
        logits, _ = passes.rows([_row(row) for row in batch], [])
        wanted = [token for row in batch for token in row.ids[len(row) - _scored(row) :]]
        loss = target_cross_entropy(logits, torch.tensor(wanted, device=logits.device)) / targets
        total += loss.item()
        backward(loss)
    return {"task": total, "loss": total}


def _scored(row: Encoded) -> int:
    """Target tokens that have a token before them."""
    return min(row.n_target, len(row) - 1)


def _row(row: Encoded) -> Row:
    first = len(row) - _scored(row) - 1
    return Row(list(row.ids), list(range(len(row))), wanted=[(column, 0, 0) for column in range(first, len(row) - 1)])
