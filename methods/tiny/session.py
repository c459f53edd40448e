"""Random batches and an engine of a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Composed, TrainingPhase
from methods.routing.frozen import input_device
from methods.seeding import generator, seed_from
from methods.tiny.models import VOCABULARY, model_logits

GENERATED = 3
"""Tokens of a text: a cache serves the second what it holds of the prompt, and the third what it holds of the text."""


@dataclass(frozen=True)
class TinyBatch:
    """Right-padded sequences, all `[b, t]` but `domain` `[b]`; `labels` are -100 outside answers."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    domain: Tensor

    def __getitem__(self, rows: slice) -> TinyBatch:
        """Some of the sequences."""
        return TinyBatch(self.input_ids[rows], self.attention_mask[rows], self.labels[rows], self.domain[rows])

    def to(self, device: torch.device) -> TinyBatch:
        """The same on a device."""
        return TinyBatch(*(getattr(self, one.name).to(device) for one in fields(self)))


def tiny_batch(n: int = 8, length: int = 12, domains: int = 4, seed: int = 0) -> TinyBatch:
    """Random sequences of unequal lengths whose last four tokens are the answer; domains take turns."""
    draw = generator("tiny", "batch", seed)
    ids = torch.randint(3, VOCABULARY, (n, length), generator=draw)
    lengths = torch.randint(length // 2, length + 1, (n,), generator=draw)
    lengths[0] = length
    mask = torch.arange(length) < lengths[:, None]
    answer = mask & (torch.arange(length) >= lengths[:, None] - 4)
    ids = torch.where(mask, ids, 0)
    return TinyBatch(ids, mask.long(), torch.where(answer, ids, -100), torch.arange(n) % domains)


def window_gradient(composed: Composed, window: Sequence[TinyBatch], *, packed: bool = False) -> dict[str, float]:
    """Accumulate the gradient of one optimiser step, every loss weighted by its own counts over the window.

    Args:
        composed: whose parameters to be trained require gradients.
        window: micro-batches.
        packed: whether sequences are laid end to end instead of being padded.

    Returns:
        The window's cross-entropy (`task`) and the raw value of every auxiliary loss.
    """
    context = composed.context
    counts = {name: [_count(batch, name) for batch in window] for name in ("all_nonpad", "answer_only", "prompt_only")}
    forward = _packed if packed else _forward
    targets = [int((batch.labels[:, 1:] != -100).sum()) for batch in window]
    if composed.stats_scope == "accum":
        with torch.no_grad():
            for batch in window:
                forward(composed, batch)
                composed.losses()
        composed.on_statistics_end()
    values: dict[str, float] = {}
    for index, batch in enumerate(window):
        logits = forward(composed, batch)[:, :-1].flatten(0, 1)
        task = nn.functional.cross_entropy(logits, batch.labels[:, 1:].flatten(), reduction="sum") / sum(targets)
        total, values["task"] = task, values.get("task", 0.0) + task.item()
        for name, term in composed.losses().items():
            tokens = counts[term.counted]
            share = tokens[index] / sum(tokens) if term.per_token else 1 / len(window)
            total = total + term.coefficient * share * term.value
            values[name] = values.get(name, 0.0) + share * term.value.item()
        total.backward()
    context.training, context.domain, context.label_mask = False, None, None
    return values


def _forward(composed: Composed, batch: TinyBatch) -> Tensor:
    context = composed.context
    context.training, context.domain, context.label_mask = True, batch.domain, batch.labels != -100
    return model_logits(composed.model, batch.input_ids, batch.attention_mask, use_cache=False)


def _packed(composed: Composed, batch: TinyBatch) -> Tensor:
    """`_forward` with the sequences laid end to end, each attending to itself; zero where padding would be."""
    context, real = composed.context, batch.attention_mask.bool()
    sequence, position = real.nonzero(as_tuple=True)
    context.training, context.domain = True, batch.domain[sequence][None]
    context.label_mask, context.given_mask = (batch.labels != -100)[real][None], torch.ones_like(sequence).bool()[None]
    sees = (sequence[:, None] == sequence) & (position[:, None] >= position)
    ids, options = batch.input_ids[real][None], {"position_ids": position[None], "use_cache": False}
    logits = model_logits(composed.model, ids, sees[None, None], **options)
    return logits.new_zeros(*real.shape, logits.shape[-1]).masked_scatter(real[..., None], logits)


def _count(batch: TinyBatch, tokens: str) -> int:
    answer, real = batch.labels != -100, batch.attention_mask.bool()
    chosen = {"all_nonpad": real, "answer_only": answer & real, "prompt_only": ~answer & real}[tokens]
    return int(chosen.sum())


def left_padded() -> tuple[Tensor, Tensor]:
    """Four prompts of unequal lengths, `[4, 10]` ids and mask; the first has no padding."""
    ids = tiny_batch(4, length=10).input_ids.clamp(min=3)
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 2, 5, 7)):
        ids[row, :padding], mask[row, :padding] = 0, 0
    return ids, mask


def generate(model: Any, ids: Tensor, mask: Tensor, *, use_cache: bool) -> Tensor:
    """`GENERATED` tokens, greedily."""
    length = {"max_new_tokens": GENERATED, "min_new_tokens": GENERATED}
    out: Tensor = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, use_cache=use_cache, **length)
    return out


class TinySession:
    """A `methods.base.Session` that trains with AdamW on random sequences.

    Attributes:
        steps: optimiser steps of each phase.
        micro: sequences of a micro-batch; a window holds eight.
        log: raw losses of every step of every phase, in order.
        trained: names of groups that some phase trained.
        task: see `methods.base.Session`.
        notes: entries of `note`, in order.
        progressed: what `progress` was told, in order.
    """

    def __init__(
        self, *, steps: int = 3, micro: int = 8, lr: float = 1e-2, seed: int = 0, task: str | None = "a"
    ) -> None:
        self.steps = steps
        self.micro = micro
        self.lr = lr
        self.seed = seed
        self.task = task
        self.log: list[Mapping[str, float]] = []
        self.notes: list[Mapping[str, Any]] = []
        self.progressed: list[tuple[int, int]] = []
        self.trained: set[str] = set()

    @property
    def sequences(self) -> int:
        """See `Session.sequences`."""
        return self.micro

    def train(self, composed: Composed, phase: TrainingPhase) -> None:
        """See `Session.train`."""
        groups = {name: composed.groups()[name] for name in phase.groups}
        self.trained |= groups.keys()
        flags = [(parameter, parameter.requires_grad) for parameter in composed.model.parameters()]
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        parameters = []
        for name, group in groups.items():
            for parameter in group.values():
                parameter.requires_grad_(True)
            parameters.append({"params": list(group.values()), "lr": phase.lr.get(name, self.lr)})
        optimizer = torch.optim.AdamW(parameters, weight_decay=phase.weight_decay)
        steps = min(self.steps, phase.max_steps or self.steps)
        composed.model.train()
        for step in range(steps):
            composed.context.progress = step / steps
            batch = self._batch(composed, phase.data, step).to(input_device(composed.model))
            window = [batch[start : start + self.micro] for start in range(0, 8, self.micro)]
            self.log.append(window_gradient(composed, window))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            composed.on_window_end()
        composed.model.eval()
        for parameter, flag in flags:
            parameter.requires_grad_(flag)

    def progress(self, done: int, of: int) -> None:
        """See `Session.progress`."""
        self.progressed.append((done, of))

    def note(self, entry: Mapping[str, Any]) -> None:
        """See `Session.note`."""
        self.notes.append(entry)

    def dev_tasks(self) -> tuple[str, ...]:
        """See `Session.dev_tasks`."""
        return ("a", "b")

    def loss(self, composed: Composed, data: str, n: int) -> float:
        """See `Session.loss`."""
        batch = self._batch(composed, data, 0)[:n].to(input_device(composed.model))
        composed.context.prompt_mask = batch.attention_mask.bool() & (batch.labels == -100)
        with torch.no_grad():
            logits = model_logits(composed.model, batch.input_ids, batch.attention_mask)[:, :-1].flatten(0, 1)
        composed.context.prompt_mask = None
        return float(nn.functional.cross_entropy(logits, batch.labels[:, 1:].flatten()))

    def read(self, composed: Composed, data: str, n: int) -> None:
        """See `Session.read`."""
        self.loss(composed, data, n)

    def _batch(self, composed: Composed, data: str, step: int) -> TinyBatch:
        _, _, chosen = data.partition(":")
        batch = tiny_batch(domains=max(len(composed.experts), 1), seed=seed_from(self.seed, data, step))
        if chosen in composed.experts:
            index = composed.experts.index(chosen)
            return TinyBatch(batch.input_ids, batch.attention_mask, batch.labels, torch.full_like(batch.domain, index))
        return batch
