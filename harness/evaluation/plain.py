"""The plain path: whole sequences in padded batches, for every model that transformers can run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from harness.checkpoints import NOTHING, Piece
from harness.evaluation.batching import batches
from harness.evaluation.decode import Generation, ragged, rows_of
from harness.evaluation.encode import Scored
from harness.evaluation.likelihood import Likelihood, Sums, Turns
from harness.evaluation.sampling import likeliest, next_tokens
from harness.evaluation.stopping import Stops
from harness.training.forward import logits_at
from methods.routing.frozen import input_device
from methods.routing.mamba import is_state_space

if TYPE_CHECKING:
    from methods.routing.context import RoutingContext


class PlainRunner:
    """Scores and continues with the model's own attention and generation.

    Args:
        model: causal or encoder-decoder.
        pad_token: id for padding columns.
        stops: when generated rows end.
        rows: most rows generated at once.
        batch_tokens: most tokens of one forward pass, padding counted.
        kv_cache: whether generation may keep keys and values; where not, every step computes the whole sequence.
        passes: of the base model behind each of the model's, for the count of tokens.
        context: told which tokens are prompt, for methods that fix their weights on it.
    """

    def __init__(
        self,
        model: nn.Module,
        pad_token: int,
        stops: Stops,
        *,
        rows: int,
        batch_tokens: int,
        kv_cache: bool,
        passes: int = 1,
        context: RoutingContext | None = None,
    ) -> None:
        self.model = model
        self.pad_token = pad_token
        self.stops = stops
        self.rows = rows
        self.batch_tokens = batch_tokens
        self.kv_cache = kv_cache
        self.passes = passes
        self.context = context
        self.device = input_device(model)
        self.seq2seq = bool(model.config.is_encoder_decoder)  # type: ignore[union-attr]
        # State-space models hide padding before a projection, whose bias their convolution then sees.
        self.pads_show = is_state_space(model.config) and bool(model.config.use_bias)  # type: ignore[union-attr]
        self.tokens = 0

    def score(
        self,
        items: Sequence[Scored],
        on_done: Callable[[int], None] = lambda done: None,
        piece: Piece = NOTHING,
    ) -> list[Likelihood]:
        """One `Likelihood` per item; items with the same input are computed once."""
        same: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for i, item in enumerate(items):
            fed = (*item.context, *item.targets) if self.seq2seq else tuple(item.inputs)
            same.setdefault((fed, len(item.context)), []).append(i)
        sums = Sums([item.targets for item in items], on_done)
        if piece.state is not None:
            sums.load_state(piece.state["sums"])
        turns = Turns(piece)
        for members in batches(same.values(), lambda members: len(items[members[0]].inputs), self.batch_tokens):
            if not turns.next():
                continue
            firsts = [items[alike[0]] for alike in members]
            logits = self._encoder_decoder(firsts) if self.seq2seq else self._causal(firsts)
            wanted, before = [], 0
            for alike, first in zip(members, firsts, strict=True):
                count = len(first.targets)
                wanted += [(before + j, i, j) for i in alike for j in range(count)]
                before += count
            sums.add(logits, wanted)
            piece.offer(lambda: {"passes": turns.passes, "sums": sums.state()})
        return sums.results()

    def _causal(self, items: Sequence[Scored]) -> Tensor:
        ids, real = self._pad([item.inputs for item in items], left=False)
        keep = torch.zeros_like(real)
        prompt = torch.zeros_like(real)
        for i, item in enumerate(items):
            end = len(item.inputs)
            keep[i, end - len(item.targets) : end] = True
            prompt[i, : len(item.context)] = True
        with self._prompt(prompt):
            logits, _ = logits_at(self.model, keep, input_ids=ids, attention_mask=real.long(), use_cache=False)
        return logits

    def _encoder_decoder(self, items: Sequence[Scored]) -> Tensor:
        ids, real = self._pad([item.context for item in items], left=False)
        labels, keep = self._pad([item.targets for item in items], left=False)
        model: Any = self.model
        with self._prompt(real):
            logits, _ = logits_at(
                model,
                keep,
                input_ids=ids,
                attention_mask=real.long(),
                decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels),
                decoder_attention_mask=keep.long(),
                use_cache=False,
            )
        return logits

    def generate(
        self,
        jobs: Sequence[Generation],
        on_done: Callable[[int], None] = lambda done: None,
        piece: Piece = NOTHING,
    ) -> list[list[int]]:
        """Generated token ids of every job, the end token included."""
        made: list[list[int]] = [[] for _ in jobs] if piece.state is None else rows_of(piece.state["made"])
        turns = Turns(piece)
        order = sorted(range(len(jobs)), key=lambda i: (jobs[i].max_new_tokens, len(jobs[i].prompt)), reverse=True)
        while order:
            longest = len(jobs[order[0]].prompt) + jobs[order[0]].max_new_tokens
            count = max(1, min(self.rows, self.batch_tokens // longest))
            batch = [i for i in order[:count] if self._together(jobs[i], jobs[order[0]])]
            order = order[len(batch) :]
            if not turns.next():
                on_done(len(batch))
                continue
            for i, row in zip(batch, self._continue([jobs[i] for i in batch]), strict=True):
                made[i] = row
            on_done(len(batch))
            piece.offer(lambda: {"passes": turns.passes, "made": ragged(made)})
        return made

    def _together(self, job: Generation, other: Generation) -> bool:
        """Whether two jobs may be rows of one batch."""
        equal = len(job.prompt) == len(other.prompt)
        return job.max_new_tokens == other.max_new_tokens and (equal or not self.pads_show)

    def _continue(self, jobs: Sequence[Generation]) -> list[list[int]]:
        ids, real = self._pad([job.prompt for job in jobs], left=True)
        start = 1 if self.seq2seq else ids.shape[1]
        model: Any = self.model
        with self._prompt(real):
            out = model.generate(
                input_ids=ids,
                attention_mask=real.long(),
                max_new_tokens=jobs[0].max_new_tokens,
                do_sample=False,
                use_cache=self.kv_cache,
                pad_token_id=self.pad_token,
                stopping_criteria=StoppingCriteriaList([_RowStops(self.stops, jobs, start)]),
                logits_processor=LogitsProcessorList([_Draws(jobs, start)]),
            )
        rows = out[:, start:].tolist()
        made = [self._until_finished(row, job) for row, job in zip(rows, jobs, strict=True)]
        for row, job in zip(made, jobs, strict=True):
            # A step computes one token, or the whole sequence again where nothing is kept.
            steps = sum(1 if self.kv_cache else len(job.prompt) + step for step in range(1, len(row)))
            self.tokens += steps * self.passes
        return made

    def _until_finished(self, row: list[int], job: Generation) -> list[int]:
        """Without the padding that follows once the row has stopped."""
        for end in range(1, len(row)):
            if self.stops.finished([row[:end]], [job.stops])[0]:
                return row[:end]
        return row

    def _pad(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
        """Ids `[b, t]` and booleans of what is no padding."""
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.pad_token)
        real = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows):
            columns = slice(length - len(row), length) if left else slice(0, len(row))
            ids[i, columns] = torch.tensor(row)
            real[i, columns] = True
            self.tokens += len(row) * self.passes
        return ids.to(self.device), real.to(self.device)

    @contextmanager
    def _prompt(self, mask: Tensor) -> Iterator[None]:
        if self.context is None:
            yield
            return
        self.context.prompt_mask = mask
        try:
            yield
        finally:
            self.context.prompt_mask = None


class _RowStops(StoppingCriteria):
    """`Stops` for a batch of transformers' generation; a finished row stays finished."""

    def __init__(self, stops: Stops, jobs: Sequence[Generation], start: int) -> None:
        self.stops = stops
        self.jobs = jobs
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        rows = input_ids[:, self.start :].tolist()
        done = self.stops.finished(rows, [job.stops for job in self.jobs])
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)


class _Draws(LogitsProcessor):
    """Leaves greedy rows alone and lets only the drawn token through in sampled ones."""

    def __init__(self, jobs: Sequence[Generation], start: int) -> None:
        self.sampling = [job.sampling for job in jobs]
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not any(self.sampling):
            likeliest(scores)  # says so if there is none
            return scores
        step = input_ids.shape[1] - self.start
        chosen = next_tokens(scores, self.sampling, [step] * len(self.sampling))
        only = torch.full_like(scores, float("-inf"))
        only[range(len(chosen)), chosen] = 0.0
        return only
