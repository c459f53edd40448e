"""Forward passes of a causal model over rows that share a prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness.evaluation.attention import Fresh, KeysValues, Pass, PassCache, shared_attention
from harness.evaluation.tree import Row
from harness.forward import logits_at


class SharedPasses:
    """Runs a model's own forward with shared-prefix attention.

    Args:
        model: a transformers causal model, possibly with routed layers.
        pad_token: id for padding columns.

    Attributes:
        tokens: tokens computed so far, without padding.
    """

    def __init__(self, model: nn.Module, pad_token: int) -> None:
        self.model = model
        self.pad_token = pad_token
        self.device = next(model.parameters()).device
        self.dtype = next(model.parameters()).dtype
        self.tokens = 0
        found = (getattr(module, "config", None) for module in model.modules())
        self._configs = list({id(c): c for c in found if hasattr(c, "_attn_implementation")}.values())

    def run(self, ids: Tensor, positions: Tensor, real: Tensor, keep: Tensor, current: Pass) -> Tensor:
        """One forward pass.

        Args:
            ids: `[b, t]`.
            positions: `[b, t]`, in each token's own sequence.
            real: `[b, past + t]` booleans, false where padding is; the last t columns are this pass.
            keep: `[b, t]` booleans of the m positions whose logits are wanted.
            current: what is attended to.

        Returns:
            Logits `[m, vocabulary]`, in row-major order.
        """
        with shared_attention(self._configs, current):
            logits, _ = logits_at(
                self.model,
                keep,
                input_ids=ids,
                attention_mask=real.long(),
                position_ids=positions,
                past_key_values=PassCache(current),
                use_cache=True,
            )
        self.tokens += int(real[:, -ids.shape[1] :].sum()) if self.device.type == "cpu" else ids.numel()
        return logits

    def rows(self, rows: Sequence[Row], prefix: KeysValues) -> tuple[Tensor, Fresh]:
        """Compute a batch of rows below a prefix.

        Returns:
            Logits of the rows' wanted columns (each column once, rows in order, columns ascending), and the rows' own
            keys and values, padded on the right.
        """
        shape = (len(rows), max(len(row.tokens) for row in rows))
        ids = np.full(shape, self.pad_token)
        positions = np.zeros(shape, dtype=np.int64)
        real = np.zeros(shape, dtype=bool)
        keep = np.zeros(shape, dtype=bool)
        for i, row in enumerate(rows):
            length = len(row.tokens)
            ids[i, :length] = row.tokens
            positions[i, :length] = row.positions
            positions[i, length:] = row.positions[-1]
            real[i, :length] = True
            keep[i, [column for column, _, _ in row.wanted]] = True
        mask = None if all(row.is_chain for row in rows) else self._tree_mask(rows, shape[1])
        past = prefix[0][0].shape[2] if prefix else 0
        current = Pass(Fresh(), prefix, mask, past)
        above = np.ones((len(rows), past), dtype=bool)
        logits = self.run(
            self._tensor(ids),
            self._tensor(positions),
            self._tensor(np.concatenate([above, real], axis=1)),
            self._tensor(keep),
            current,
        )
        assert isinstance(current.own, Fresh)
        return logits, current.own

    def _tree_mask(self, rows: Sequence[Row], length: int) -> Tensor:
        visible = np.zeros((len(rows), 1, length, length), dtype=bool)
        for i, row in enumerate(rows):
            own = len(row.tokens)
            visible[i, 0, :own, :own] = row.visible()
            visible[i, 0, own:, 0] = True  # padding queries see something, so that no softmax is empty
        return additive(self._tensor(visible), self.dtype)

    def extend(self, prefix: KeysValues, row: Row) -> tuple[Tensor, KeysValues]:
        """Compute a chain below a prefix: logits of its wanted columns, and the longer prefix."""
        logits, own = self.rows([row], prefix)
        if not prefix:
            return logits, own.layers
        joined = [
            (torch.cat([keys, more_keys], dim=2), torch.cat([values, more_values], dim=2))
            for (keys, values), (more_keys, more_values) in zip(prefix, own.layers, strict=True)
        ]
        return logits, joined

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores: 0 where `visible`, minus infinity elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, float("-inf"))
