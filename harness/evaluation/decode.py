"""Decoding with a shared prefix: rows sit in fixed buffers, finished rows leave, waiting ones take their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.checkpoints import NOTHING, Data, Piece
from harness.evaluation.attention import Fresh, KeysValues, Pass
from harness.evaluation.likelihood import pieces
from harness.evaluation.passes import SharedPasses, additive
from harness.evaluation.sampling import Sampling, next_tokens
from harness.evaluation.stopping import Stops
from harness.evaluation.tree import Row, SharedPrefix, build, decoding_groups


@dataclass
class Generation:
    """A prompt to continue.

    Attributes:
        prompt: token ids, at least one.
        max_new_tokens: at least one.
        stops: strings that end the text and are cut off with what follows.
        sampling: None is greedy.
    """

    prompt: list[int]
    max_new_tokens: int
    stops: tuple[str, ...] = ()
    sampling: Sampling | None = None


@dataclass
class _Live:
    job: int
    length: int
    made: list[int] = field(default_factory=list)


class _Slots:
    """Keys and values of the rows being decoded, `[slots, h, longest, d]` for every layer; live rows come first."""

    def __init__(self, slots: int, longest: int) -> None:
        self.slots = slots
        self.longest = longest
        self.layers: KeysValues = []
        self.at = torch.zeros(0, dtype=torch.long)
        self.seen = 0

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write this step's keys, `[n, h, 1, d]`, at each row's place; see `Own`."""
        own_keys, own_values = self.layers[layer]
        at = self.at.to(keys.device)
        rows = torch.arange(len(at), device=at.device)
        own_keys[rows, :, at] = keys[:, :, 0]
        own_values[rows, :, at] = values[:, :, 0]
        return own_keys[: len(rows), :, : self.seen], own_values[: len(rows), :, : self.seen]

    def admit(self, prompts: Pass, first: int) -> None:
        """Copy the prompts' keys into the slots from `first` on."""
        assert isinstance(prompts.own, Fresh)
        fresh = prompts.own.layers
        if not self.layers:
            self.layers = [(self._room(keys), self._room(values)) for keys, values in fresh]
        for room, packed in zip(self.layers, fresh, strict=True):
            for slots, part in zip(room, packed, strict=True):
                rows = part if prompts.packing is None else prompts.packing.unpack(part)
                slots[first : first + rows.shape[0], :, : rows.shape[2]] = rows

    def _room(self, like: Tensor) -> Tensor:
        return like.new_zeros(self.slots, like.shape[1], self.longest, like.shape[3])

    def state(self, live: Sequence[_Live]) -> Data:
        """What the slots of live rows hold, on the CPU, and where each layer's lie."""
        longest = max((row.length for row in live), default=0)
        layers = [[part[: len(live), :, :longest].cpu().clone() for part in pair] for pair in self.layers]
        return {"layers": layers, "devices": [str(keys.device) for keys, _ in self.layers]}

    def load_state(self, state: Data) -> None:
        """Inverse of `state`."""
        for pair, device in zip(state["layers"], state["devices"], strict=True):
            keys, values = (part.to(device) for part in pair)
            rooms = self._room(keys), self._room(values)
            for room, kept in zip(rooms, (keys, values), strict=True):
                room[: kept.shape[0], :, : kept.shape[2]] = kept
            self.layers.append(rooms)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row's first `length` entries."""
        for keys, values in self.layers:
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]


class _Rows(NamedTuple):
    """Rows of one group: jobs that wait, the next one last; those being decoded; and their slots."""

    waiting: list[int]
    live: list[_Live]
    slots: _Slots

    def state(self) -> Data:
        return {
            "waiting": len(self.waiting),
            "live": [[row.job for row in self.live], [row.length for row in self.live]],
            "rows": ragged([row.made for row in self.live]),
            "slots": self.slots.state(self.live),
        }


def ragged(rows: Sequence[Sequence[int]]) -> Data:
    """Lists of token ids as two tensors."""
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
    return {"ids": ids, "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int32)}


def rows_of(found: Data) -> list[list[int]]:
    """Inverse of `ragged`."""
    return [part.tolist() for part in found["ids"].split(found["lengths"].tolist())]


class Decoder:
    """Continues prompts.

    Args:
        passes: the model.
        stops: when rows end.
        rows: most rows decoded at once.
        batch_tokens: most prompt tokens of one forward pass.
        cache_bytes: most memory for the rows' own keys and values; fewer rows are decoded at once to keep it.
    """

    def __init__(self, passes: SharedPasses, stops: Stops, *, rows: int, batch_tokens: int, cache_bytes: int) -> None:
        self.passes = passes
        self.stops = stops
        self.rows = rows
        self.batch_tokens = batch_tokens
        self.cache_bytes = cache_bytes
        self.generated = 0

    def generate(
        self,
        jobs: Sequence[Generation],
        on_done: Callable[[int], None] = lambda done: None,
        piece: Piece = NOTHING,
    ) -> list[list[int]]:
        """Generated token ids of every job, the end token included. `on_done` is told how many more are ready.

        What is kept of rows that are being decoded are their own keys and values as well: made anew beside other rows
        they would differ in their last bits, and so might a token.
        """
        if not jobs:
            return []
        found: Data = piece.state or {"group": -1}
        made: list[list[int]] = rows_of(found["made"]) if piece.state else [[] for _ in jobs]
        on_done(sum(map(bool, made)))
        tree = build([job.prompt for job in jobs], [0] * len(jobs))
        for number, group in enumerate(decoding_groups(tree, smallest=min(16, self.rows))):
            if number < found["group"]:
                continue
            goes_on = number == found["group"]
            with self.passes.aside() if goes_on else nullcontext():
                prefix = self._prefix(jobs[group.members[0]].prompt[: group.length])
            rows = self._begun(jobs, group, found if goes_on else None)
            self._decode(jobs, rows, prefix, group.length, made, on_done, piece, number)
        self.generated += sum(len(row) for row in made)
        return made

    def _prefix(self, shared: list[int]) -> KeysValues:
        prefix: KeysValues = []
        for part in pieces(Row(shared, list(range(len(shared)))), self.batch_tokens):
            _, prefix = self.passes.extend(prefix, part)
        return prefix

    def _begun(self, jobs: Sequence[Generation], group: SharedPrefix, found: Data | None) -> _Rows:
        """The rows of a group: all waiting, or as an earlier process has left them."""
        waiting = sorted(group.members, key=lambda job: len(jobs[job].prompt))
        longest = max(len(jobs[job].prompt) - group.length + jobs[job].max_new_tokens for job in group.members)
        slots = _Slots(self._slots(longest, len(group.members)), longest)
        if found is None:
            return _Rows(waiting, [], slots)
        slots.load_state(found["slots"])
        live = [
            _Live(job, length, row) for job, length, row in zip(*found["live"], rows_of(found["rows"]), strict=True)
        ]
        return _Rows(waiting[: found["waiting"]], live, slots)

    def _decode(
        self,
        jobs: Sequence[Generation],
        rows: _Rows,
        prefix: KeysValues,
        shared: int,
        made: list[list[int]],
        on_done: Callable[[int], None],
        piece: Piece,
        number: int,
    ) -> None:
        waiting, live, slots = rows
        while waiting or live:
            free = slots.slots - len(live)
            if waiting and free >= min(len(waiting), max(1, slots.slots // 8)):
                self._admit(jobs, waiting, live, slots, prefix, shared)
            else:
                self._step(jobs, live, slots, prefix, shared)
            before = len(live)
            self._leave(jobs, live, slots, made)
            on_done(before - len(live))
            piece.offer(lambda: {"group": number, "made": ragged(made), **rows.state()})

    def _slots(self, longest: int, members: int) -> int:
        config = self.passes.model.config.get_text_config(decoder=True)  # type: ignore[union-attr, operator]
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        size = torch.finfo(self.passes.dtype).bits // 8
        row = 2 * self.passes.passes * config.num_hidden_layers * heads * width * longest * size
        return max(1, min(self.rows, members, self.cache_bytes // row))

    def _admit(
        self,
        jobs: Sequence[Generation],
        waiting: list[int],
        live: list[_Live],
        slots: _Slots,
        prefix: KeysValues,
        shared: int,
    ) -> None:
        rows: list[Row] = []
        while waiting and len(live) < slots.slots:
            own = jobs[waiting[-1]].prompt[shared:]
            if rows and sum(len(row.tokens) for row in rows) + len(own) > self.batch_tokens:
                break
            live.append(_Live(waiting.pop(), len(own)))
            rows.append(Row(own, list(range(shared, shared + len(own))), wanted=[(len(own) - 1, 0, 0)]))
        logits, prompts = self.passes.rows(rows, prefix)
        slots.admit(prompts, len(live) - len(rows))
        self._append(jobs, live[len(live) - len(rows) :], logits)

    def _step(
        self, jobs: Sequence[Generation], live: list[_Live], slots: _Slots, prefix: KeysValues, shared: int
    ) -> None:
        lengths = np.array([row.length for row in live])
        slots.seen = int(lengths.max()) + 1
        columns = np.arange(slots.seen)
        device = self.passes.device
        slots.at = torch.from_numpy(lengths).to(device)
        visible = torch.from_numpy(columns[None] <= lengths[:, None]).to(device)
        mask = additive(visible[:, None, None], self.passes.dtype)
        current = Pass(slots, prefix, mask=mask, past=shared + slots.seen - 1)
        # The model is told of the same tokens with their padding on the left, as transformers' own decoding has it.
        real = np.concatenate([np.ones((len(live), shared), bool), columns[::-1][None] <= lengths[:, None]], axis=1)
        logits = self.passes.run(
            torch.tensor([[row.made[-1]] for row in live], device=device),
            (slots.at + shared)[:, None],
            torch.from_numpy(real).to(device),
            torch.ones(len(live), 1, dtype=torch.bool, device=device),
            current,
        )
        for row in live:
            row.length += 1
        self._append(jobs, live, logits)

    def _append(self, jobs: Sequence[Generation], live: Sequence[_Live], logits: Tensor) -> None:
        steps = [len(row.made) for row in live]
        chosen = next_tokens(logits, [jobs[row.job].sampling for row in live], steps)
        for row, token in zip(live, chosen, strict=True):
            row.made.append(token)

    def _leave(self, jobs: Sequence[Generation], live: list[_Live], slots: _Slots, made: list[list[int]]) -> None:
        done = self.stops.finished([row.made for row in live], [jobs[row.job].stops for row in live])
        for i in reversed(range(len(live))):
            if not done[i] and len(live[i].made) < jobs[live[i].job].max_new_tokens:
                continue
            made[live[i].job] = live[i].made
            last = live.pop()
            if i < len(live):
                slots.move(len(live), i, last.length)
                live[i] = last
