"""Training data: examples of bound tasks, encoded once, drawn by seed within a token budget."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.evaluation.encode import Encoder
from results.ground.digest import seed_from
from tasks.base import BoundTask, Doc, Part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One training sequence: token ids, how many of them are the target (at the end), and whose domain it is.

    For encoder-decoder models the ids before the target are the encoder's input.
    """

    id: str
    task: str
    domain: int
    ids: tuple[int, ...]
    n_target: int

    def __len__(self) -> int:
        return len(self.ids)

    def encoded(self) -> Encoded:
        """Itself; see `Pending`."""
        return self


class Pending:
    """A training row that is encoded when it is drawn: a budget often takes a hundredth of a large part."""

    def __init__(self, id: str, task: str, make: Callable[[], Encoded]) -> None:
        self.id = id
        self.task = task
        self._make = make
        self._made: Encoded | None = None

    def encoded(self) -> Encoded:
        """The encoded row, made once."""
        if self._made is None:
            self._made = self._make()
        return self._made


def encode(
    tokenizer: PreTrainedTokenizerBase,
    task: BoundTask,
    part: Part,
    domain: int,
    max_length: int,
    *,
    seq2seq: bool = False,
) -> list[Pending]:
    """Rows of one part of a task, to be encoded as they are in evaluation, special tokens included (`Encoder`).

    Prompts too long for `max_length` lose tokens on the left, never the target. Targets of generative tasks end in the
    end-of-sequence token, so that a trained expert learns to stop; those of encoder-decoder models all do, as these
    models are trained everywhere. (Scored continuations have none, as in lm-eval.)
    """
    ends = (task.generative or seq2seq) and tokenizer.eos_token_id is not None
    ending = [tokenizer.eos_token_id] if ends else []
    encoder = Encoder(tokenizer, backend="seq2seq" if seq2seq else "causal", max_length=sys.maxsize)

    def make(doc: Doc) -> Encoded:
        example = task.example(doc)
        (scored,) = encoder.pairs([(example.prompt, example.target)])
        prompt_ids, target_ids = scored.context, scored.targets
        target_ids = (target_ids + ending)[: max_length - 1]
        room = max_length - len(target_ids)
        ids = prompt_ids[-room:] + target_ids if room < len(prompt_ids) else prompt_ids + target_ids
        return Encoded(example.id, task.name, domain, tuple(ids), len(target_ids))

    return [Pending(doc.id, task.name, partial(make, doc)) for doc in task.parts[part]]


def draw(
    pools: Mapping[str, Sequence[Encoded | Pending]],
    *,
    tokens: int | None,
    examples: int | None,
    mixture: str,
    seed: int,
) -> list[Encoded]:
    """Draw a training set without replacement from the pools of several tasks.

    Args:
        pools: rows by task, encoded when they are drawn.
        tokens: stop before this many tokens (at least one example is drawn); None for no limit.
        examples: stop at this many examples; None for no limit.
        mixture: `uniform_by_task` takes one row of each task in turn until that task runs out; `proportional`
            shuffles all rows together.
        seed: of the order within each task.

    Returns:
        The drawn rows, tasks mixed; order is the order of drawing.
    """
    shuffled = {name: _shuffled(pools[name], seed_from("draw", name, seed)) for name in sorted(pools)}
    order: Iterable[Encoded | Pending]
    if mixture == "uniform_by_task":
        order = _in_turn(shuffled)
    else:
        order = _shuffled([row for rows in shuffled.values() for row in rows], seed_from("draw", "all", seed))
    drawn: list[Encoded] = []
    used = 0
    for pending in order:
        row = pending.encoded()
        if (drawn and (tokens is not None and used + len(row) > tokens)) or (
            examples is not None and len(drawn) >= examples
        ):
            break
        drawn.append(row)
        used += len(row)
    return drawn


def _shuffled(rows: Sequence[Encoded | Pending], seed: int) -> list[Encoded | Pending]:
    # Sorted by id first: the order of a source's files must not matter.
    ordered = sorted(rows, key=lambda row: (row.task, row.id))
    random.Random(seed).shuffle(ordered)
    return ordered


def _in_turn(pools: Mapping[str, Sequence[Encoded | Pending]]) -> Iterator[Encoded | Pending]:
    left = {name: iter(rows) for name, rows in pools.items()}
    for name in cycle(list(left)):
        if not left:
            return
        if name in left:
            row = next(left[name], None)
            if row is None:
                del left[name]
            else:
                yield row


def windows(rows: Sequence[Encoded], batch_size: int, epochs: int, seed: int) -> list[list[Encoded]]:
    """Windows of `batch_size` rows, one optimiser step each, shuffled anew in every epoch; the last may be smaller."""
    plan = []
    for epoch in range(epochs):
        order = [row.encoded() for row in _shuffled(rows, seed_from("order", epoch, seed))]
        plan += [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return plan


def micro_batches(window: Sequence[Encoded], size: int, *, by_length: bool) -> list[list[Encoded]]:
    """Cut a window into micro-batches of at most `size` rows.

    Sorting by length first saves padding. It changes no gradient, since every loss is weighted by token counts over
    the window, except for statistics taken inside one micro-batch: those ask for `by_length=False`.
    """
    rows = sorted(window, key=len) if by_length else list(window)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def collate(rows: Sequence[Encoded], pad_id: int, *, seq2seq: bool = False) -> dict[str, Tensor]:
    """Right-padded `input_ids`, `attention_mask`, `labels` (all `[b, t]`; -100 outside targets) and `domain` `[b]`.

    For encoder-decoder models `input_ids` and `attention_mask` are the prompts `[b, t]`, `labels` the targets
    `[b, t']`.
    """
    domain = torch.tensor([row.domain for row in rows], dtype=torch.long)
    if seq2seq:
        prompts = [row.ids[: len(row) - row.n_target] for row in rows]
        ids, mask = _padded(prompts, pad_id), _padded([[1] * len(prompt) for prompt in prompts], 0)
        labels = _padded([row.ids[len(row) - row.n_target :] for row in rows], -100)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "domain": domain}
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    labels = torch.full((len(rows), length), -100, dtype=torch.long)
    for index, row in enumerate(rows):
        n = len(row)
        ids[index, :n] = torch.tensor(row.ids)
        mask[index, :n] = 1
        labels[index, n - row.n_target : n] = ids[index, n - row.n_target : n]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "domain": domain}


def laid(rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """What `collate` gives, without padding: rows end to end, all `[1, t]`, each token with its row's domain.

    Beside it `position_ids` `[1, t]`, which start anew with every row, and `lengths` `[b]` of the rows.
    """
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.tensor([token for row in rows for token in row.ids])
    positions = torch.cat([torch.arange(len(row)) for row in rows])
    left = lengths.repeat_interleave(lengths) - positions
    targets = torch.tensor([row.n_target for row in rows]).repeat_interleave(lengths)
    parts = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids.masked_fill(left > targets, -100),
        "domain": torch.tensor([row.domain for row in rows]).repeat_interleave(lengths),
        "position_ids": positions,
    }
    return {name: part.unsqueeze(0) for name, part in parts.items()} | {"lengths": lengths}


def _padded(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Rows of unequal lengths, at least one column wide."""
    filled = torch.full((len(rows), max(1, max(map(len, rows)))), padding, dtype=torch.long)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return filled
