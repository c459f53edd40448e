"""Log-likelihoods of continuations over a prefix tree: every shared token once, logits only where they are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.evaluation.attention import KeysValues
from harness.evaluation.batching import batches
from harness.evaluation.encode import Scored
from harness.evaluation.passes import SharedPasses
from harness.evaluation.tree import Group, Row, build, plan


class Likelihood(NamedTuple):
    """Sum of log-probabilities in nats, and whether every token was the most likely one."""

    loglikelihood: float
    is_greedy: bool


class Sums:
    """Collects the scored tokens of many continuations, in whatever order they come."""

    def __init__(self, targets: Sequence[Sequence[int]], on_done: Callable[[int], None] = lambda done: None) -> None:
        self._targets = targets
        self._left = [len(tokens) for tokens in targets]
        self._sums = [0.0] * len(targets)
        self._greedy = [True] * len(targets)
        self._on_done = on_done

    def add(self, logits: Tensor, wanted: Sequence[tuple[int, int, int]]) -> None:
        """Take logits `[m, vocabulary]` and `(row of logits, sequence, index of the target)` of what they score."""
        if not wanted:
            return
        at = torch.tensor([row for row, _, _ in wanted], device=logits.device)
        targets = torch.tensor([self._targets[seq][index] for _, seq, index in wanted], device=logits.device)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        chosen = (logits[at, targets] - logits.logsumexp(-1)[at]).tolist()
        greedy = (logits.argmax(-1)[at] == targets).tolist()
        done = 0
        for (_, seq, _), value, hit in zip(wanted, chosen, greedy, strict=True):
            self._sums[seq] += value
            self._greedy[seq] &= hit
            self._left[seq] -= 1
            done += not self._left[seq]
        self._on_done(done)

    def results(self) -> list[Likelihood]:
        """One per continuation, when all their tokens came."""
        assert not any(self._left)
        return [Likelihood(*pair) for pair in zip(self._sums, self._greedy, strict=True)]


class TreeScorer:
    """Scores continuations with shared passes.

    Args:
        passes: the model.
        batch_tokens: most tokens of one forward pass.
        overhead: what one more forward pass costs, in tokens; decides what is worth sharing.
    """

    def __init__(self, passes: SharedPasses, *, batch_tokens: int, overhead: int) -> None:
        self.passes = passes
        self.batch_tokens = batch_tokens
        self.overhead = overhead

    def score(self, items: Sequence[Scored], on_done: Callable[[int], None] = lambda done: None) -> list[Likelihood]:
        """One `Likelihood` per item. `on_done` is told how many more are ready."""
        if not items:
            return []
        sums = Sums([item.targets for item in items], on_done)
        tree = build([item.inputs for item in items], [len(item.targets) for item in items])
        top = plan(tree, overhead=self.overhead, longest_row=min(512, self.batch_tokens))
        todo: list[tuple[Group, KeysValues]] = [(top, [])]
        while todo:
            group, above = todo.pop()
            prefix = self._prefix(group.prefix, above, sums)
            for batch in batches(group.rows, lambda row: len(row.tokens), self.batch_tokens, padded=False):
                logits, _ = self.passes.rows(batch, prefix)
                sums.add(logits, wanted(batch))
            todo.extend((inner, prefix) for inner in reversed(group.groups))
        return sums.results()

    def _prefix(self, row: Row, prefix: KeysValues, sums: Sums) -> KeysValues:
        for piece in pieces(row, self.batch_tokens):
            logits, prefix = self.passes.extend(prefix, piece)
            sums.add(logits, wanted([piece]))
        return prefix


def wanted(rows: Sequence[Row]) -> list[tuple[int, int, int]]:
    """`(row of logits, sequence, target)` for the logits that `SharedPasses.rows` returns."""
    found = []
    before = 0
    for row in rows:
        columns = {column: before + i for i, column in enumerate(sorted({column for column, _, _ in row.wanted}))}
        found += [(columns[column], sequence, index) for column, sequence, index in row.wanted]
        before += len(columns)
    return found


def pieces(row: Row, most: int) -> Iterator[Row]:
    """A chain cut into chains of at most `most` tokens."""
    for start in range(0, len(row.tokens), most):
        stop = min(start + most, len(row.tokens))
        inside = [(column - start, seq, index) for column, seq, index in row.wanted if start <= column < stop]
        yield Row(row.tokens[start:stop], row.positions[start:stop], wanted=inside)
