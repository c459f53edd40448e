"""Log-likelihoods of continuations over a prefix tree: every shared token once, logits only where they are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.checkpoints import NOTHING, Data, Piece
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

    def state(self) -> Data:
        """What has come so far."""
        return {
            "left": torch.tensor(self._left, dtype=torch.int32),
            "sums": torch.tensor(self._sums, dtype=torch.float64),
            "greedy": torch.tensor(self._greedy),
        }

    def load_state(self, state: Data) -> None:
        """Inverse of `state`; what is ready is ready again."""
        self._left, self._sums, self._greedy = (state[name].tolist() for name in ("left", "sums", "greedy"))
        self._on_done(self._left.count(0))

    def results(self) -> list[Likelihood]:
        """One per continuation, when all their tokens came."""
        assert not any(self._left)
        return [Likelihood(*pair) for pair in zip(self._sums, self._greedy, strict=True)]


class Turns:
    """Forward passes in an order that is always the same, of which an earlier process may have made the first ones.

    Args:
        piece: of a computation; its state has the number of them as `passes`.
    """

    def __init__(self, piece: Piece) -> None:
        self._before = 0 if piece.state is None else int(piece.state["passes"])
        self.passes = 0

    def next(self) -> bool:
        """Whether the next one is still to be made."""
        self.passes += 1
        return self.passes > self._before


class _Prefix:
    """Keys and values of a prefix, made when they are first asked for."""

    def __init__(self, make: Callable[[], KeysValues]) -> None:
        self._make: Callable[[], KeysValues] | None = make
        self._made: KeysValues = []

    def get(self) -> KeysValues:
        if self._make is not None:
            self._made, self._make = self._make(), None
        return self._made


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

    def score(
        self,
        items: Sequence[Scored],
        on_done: Callable[[int], None] = lambda done: None,
        piece: Piece = NOTHING,
    ) -> list[Likelihood]:
        """One `Likelihood` per item. `on_done` is told how many more are ready.

        Of what `piece` holds of an earlier process, prefixes alone are passed again.
        """
        if not items:
            return []
        sums = Sums([item.targets for item in items], on_done)
        if piece.state is not None:
            sums.load_state(piece.state["sums"])
        turns = Turns(piece)
        tree = build([item.inputs for item in items], [len(item.targets) for item in items])
        top = plan(tree, overhead=self.overhead, longest_row=min(512, self.batch_tokens))
        todo: list[tuple[Group, _Prefix]] = [(top, _Prefix(list))]
        while todo:
            group, above = todo.pop()
            prefix = self._prefix(group.prefix, above, sums, turns)
            for batch in batches(group.rows, lambda row: len(row.tokens), self.batch_tokens, padded=False):
                if turns.next():
                    logits, _ = self.passes.rows(batch, prefix.get())
                    sums.add(logits, wanted(batch))
                    piece.offer(lambda: {"passes": turns.passes, "sums": sums.state()})
            todo.extend((inner, prefix) for inner in reversed(group.groups))
        return sums.results()

    def _prefix(self, row: Row, above: _Prefix, sums: Sums, turns: Turns) -> _Prefix:
        """A prefix below another, scored; one that an earlier process has scored is passed when a row needs it."""

        def made(scored: Callable[[Tensor, Row], None]) -> KeysValues:
            prefix = above.get()
            for one in pieces(row, self.batch_tokens):
                logits, prefix = self.passes.extend(prefix, one)
                scored(logits, one)
            return prefix

        def again() -> KeysValues:
            above.get()
            with self.passes.aside():
                return made(lambda logits, one: None)

        if not turns.next():
            return _Prefix(again)
        prefix = made(lambda logits, one: sums.add(logits, wanted([one])))
        return _Prefix(lambda: prefix)


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
