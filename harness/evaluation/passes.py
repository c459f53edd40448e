"""Forward passes of a causal model over rows that share a prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.evaluation.attention import Fresh, KeysValues, Packing, Pass, PassCache, shared_attention
from harness.evaluation.tree import Row
from harness.training.forward import logits_at
from methods.routing.frozen import input_device

if TYPE_CHECKING:
    from methods.base import Composed


class SharedPasses:
    """Runs a model's own forward with shared-prefix attention.

    Args:
        model: a transformers causal model, possibly with routed layers.
        passes: of the base model behind each of the model's, each with keys and values of its own.
        around: surrounds passes that are made once more, and that nobody is to count.

    Attributes:
        tokens: tokens computed so far, in all passes; there is no padding.
    """

    def __init__(
        self,
        model: nn.Module,
        passes: int = 1,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.model = model
        self._around = around
        self.passes = passes
        self.device = input_device(model)
        self.dtype = next(model.parameters()).dtype
        self.tokens = 0
        found = (getattr(module, "config", None) for module in model.modules())
        self._configs = list({id(c): c for c in found if hasattr(c, "_attn_implementation")}.values())

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside the block, passes are such that an earlier process has made and counted."""
        tokens = self.tokens
        with self._around():
            yield
        self.tokens = tokens

    def run(self, ids: Tensor, positions: Tensor, real: Tensor, keep: Tensor, current: Pass) -> Tensor:
        """One forward pass.

        Args:
            ids: `[b, t]`.
            positions: `[b, t]`, in each token's own sequence.
            real: `[b, past + t]` booleans, false where padding is; the last t columns are this pass and all true.
            keep: `[b, t]` booleans of the m positions whose logits are wanted.
            current: what is attended to.

        Returns:
            Logits `[m, vocabulary]`, in row-major order.
        """
        config: Any = self.model.config
        layers = config.get_text_config(decoder=True).num_hidden_layers
        with shared_attention(self._configs, current):
            logits, _ = logits_at(
                self.model,
                keep,
                input_ids=ids,
                attention_mask=real.long(),
                position_ids=positions,
                past_key_values=PassCache(current, layers),
                use_cache=True,
            )
        self.tokens += ids.numel() * self.passes
        return logits

    def rows(self, rows: Sequence[Row], prefix: KeysValues) -> tuple[Tensor, Pass]:
        """Compute rows below a prefix in one pass, laid end to end.

        Returns:
            Logits of the rows' wanted columns (each column once, rows in order, columns ascending), and the pass, which
            holds the rows' own keys and values.
        """
        past = prefix[0][0].shape[2] if prefix else 0
        keep = [np.isin(np.arange(len(row.tokens)), [column for column, _, _ in row.wanted]) for row in rows]
        ids = np.concatenate([row.tokens for row in rows])[None]
        current = self._pass(rows, prefix, past)
        logits = self.run(
            self._tensor(ids),
            self._tensor(np.concatenate([row.positions for row in rows])[None]),
            self._tensor(np.ones((1, past + ids.shape[1]), dtype=bool)),
            self._tensor(np.concatenate(keep)[None]),
            current,
        )
        return logits, current

    def _pass(self, rows: Sequence[Row], prefix: KeysValues, past: int) -> Pass:
        trunk = max(row.trunk for row in rows)
        rest = max(len(row.tokens) - row.trunk for row in rows)
        starts = np.cumsum([0, *(len(row.tokens) for row in rows)])
        place = np.zeros((len(rows), trunk + rest), dtype=np.int64)
        visible = np.zeros((len(rows), 1, rest, trunk + rest), dtype=bool)
        visible[:, :, :, 0] = True  # padding sees something, so that no softmax is empty
        back = []
        for i, row in enumerate(rows):
            own = len(row.tokens)
            columns = np.arange(own) + np.where(np.arange(own) < row.trunk, 0, trunk - row.trunk)
            place[i, columns] = starts[i] + np.arange(own)
            back.append(i * (trunk + rest) + columns)
            if own > row.trunk:
                visible[i, 0, : own - row.trunk, 0] = False
                visible[i, 0, : own - row.trunk, columns] = row.visible().T
        mask = additive(self._tensor(visible), self.dtype) if rest else None
        packing = None
        if len(rows) > 1:
            lengths = [len(row.tokens) for row in rows]
            packing = Packing(lengths, self._tensor(place), self._tensor(np.concatenate(back)))
        return Pass(Fresh(), prefix, trunk, mask, packing, past)

    def extend(self, prefix: KeysValues, chain: Row) -> tuple[Tensor, KeysValues]:
        """Compute a chain below a prefix: logits of its wanted columns, and the longer prefix."""
        logits, current = self.rows([chain], prefix)
        assert isinstance(current.own, Fresh)
        if not prefix:
            return logits, current.own.layers
        joined = [
            (torch.cat([keys, more_keys], dim=2), torch.cat([values, more_values], dim=2))
            for (keys, values), (more_keys, more_values) in zip(prefix, current.own.layers, strict=True)
        ]
        return logits, joined

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


@contextmanager
def uncounted(composed: Composed) -> Iterator[None]:
    """Inside the block passes leave no trace in diagnostics; they compute what they would outside."""
    tally = composed.tally()
    try:
        yield
    finally:
        composed.load_tally(tally)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores: 0 where `visible`, minus infinity elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, float("-inf"))
