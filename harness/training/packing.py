"""Training sequences laid end to end: no padding is computed, and the gradient is that of the padded batch.

Positions start anew with every sequence and each attends to itself alone, so nothing but rounding differs.
Only for models and settings in which a sequence's own tokens are all that its logits depend on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.evaluation.attention import CannotShare
from harness.evaluation.passes import SharedPasses
from harness.evaluation.paths import deviation, longest_shared, obstacle
from harness.evaluation.tree import Row
from harness.training.cutting import draws
from harness.training.data import Encoded
from harness.training.forward import scored
from methods.routing.frozen import input_device

if TYPE_CHECKING:
    from harness.models import BaseModel
    from methods.base import Composed

PASS_TOKENS = 512
"""Tokens of one pass aimed at: in larger ones activations leave the processor's cache between two products."""


def takes_packed(model: Any) -> bool:
    """Whether a transformers model is of a kind whose rows may be laid end to end; weights are not looked at."""
    return obstacle(model) is None and not _drops_attention(model)


def packable(base: BaseModel) -> bool:
    """Whether a base model, in which nothing is installed, has the padded gradient on packed rows.

    Not on accelerators, where the attention used here keeps all scores for the backward pass.
    """
    model: Any = base.model
    if input_device(model).type != "cpu" or not takes_packed(model):
        return False
    if model not in _PROBED:
        try:
            with torch.no_grad():
                _PROBED[model] = deviation(model, base.tokenizer) is None
        except CannotShare:
            _PROBED[model] = False
    return _PROBED[model]


def packing_passes(model: nn.Module, rows: Sequence[Encoded]) -> SharedPasses | None:
    """Passes of a `packable` model over packed rows, or None where some row is too long for them.

    Args:
        model: the base model, whatever has been installed in it since it was found packable.
        rows: the training set.
    """
    longest = longest_shared(model)
    return None if longest is not None and max(map(len, rows)) > longest else SharedPasses(model)


def routed_passes(composed: Composed, rows: Sequence[Encoded]) -> SharedPasses | None:
    """`packing_passes` of a composed model whose base is packable; None where packed rows are not the padded ones to
    it (`Composed.packs`) or where it draws numbers for every position: dropout."""
    return packing_passes(composed.model, rows) if rows and composed.packs and not draws(composed.model) else None


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


def packed_logits(passes: SharedPasses, part: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`target_logits` of a micro-batch without padding, see `data.laid`."""
    targets, lengths = scored(passes.model, part), part["lengths"].tolist()
    rows = []
    for ids, own in zip(part["input_ids"][0].split(lengths), targets[0].split(lengths), strict=True):
        wanted = [(column - 1, 0, 0) for column in own.nonzero().flatten().tolist()]
        rows.append(Row(ids.tolist(), list(range(len(ids))), wanted=wanted))
    logits, _ = passes.rows(rows, [])
    return logits, part["labels"][targets]
