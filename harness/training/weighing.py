"""How much each example counts in the task loss of a fit: `routers.weigh`.

Targets of some tasks are a hundred tokens and those of others one, so a mean over tokens of a mixed window is nearly a
mean over one task. Every reading is a sum over the window's rows of `weight * summed cross-entropy of the row`, with
weights that depend on the window alone: the gradient is the same however the window is cut into micro-batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.training.data import Encoded

Weigh = Literal["tokens", "examples", "tasks"]


@dataclass(frozen=True)
class Weighing:
    """Weights of rows in the mean that a window's task loss is.

    Attributes:
        by: `tokens` (every target token alike), `examples` (every example, a mean over its tokens, alike) or `tasks`
            (every task alike over the whole training set, and within it every example).
        seq2seq: whether the first target token has something before it.
        factors: of each task's examples, with mean 1 over the training set.
    """

    by: Weigh = "tokens"
    seq2seq: bool = False
    factors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, by: Weigh, rows: Sequence[Encoded], *, seq2seq: bool = False) -> Weighing:
        """The weighing of a training set."""
        counts = Counter(row.task for row in rows)
        factors = {task: len(rows) / (len(counts) * count) for task, count in counts.items()} if by == "tasks" else {}
        return cls(by, seq2seq, factors)

    def scored(self, row: Encoded) -> int:
        """Target tokens of a row that have a loss."""
        return row.n_target if self.seq2seq else min(row.n_target, len(row) - 1)

    def window(self, parts: Sequence[Sequence[Encoded]]) -> list[list[float]]:
        """The weight of each row's summed cross-entropy, by micro-batch; 0 for a row without a scored token."""
        scored = [[self.scored(row) for row in part] for part in parts]
        if self.by == "tokens":
            total = sum(map(sum, scored))
            return [[1 / total if count else 0.0 for count in part] for part in scored]
        rows = sum(count > 0 for part in scored for count in part)
        return [
            [
                self.factors.get(row.task, 1.0) / (rows * count) if count else 0.0
                for row, count in zip(*both, strict=True)
            ]
            for both in zip(parts, scored, strict=True)
        ]

    def shares(self, windows: Iterable[Sequence[Encoded]]) -> dict[str, float]:
        """Each task's share of the weight in the losses of these windows, a mean over them: by task; they sum to 1."""
        found: dict[str, float] = {}
        for window in windows:
            for row, weight in zip(window, self.window([window])[0], strict=True):
                found[row.task] = found.get(row.task, 0.0) + weight * self.scored(row)
        total = sum(found.values()) or 1.0
        return {task: found[task] / total for task in sorted(found)}
