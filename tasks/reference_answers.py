"""Generative tasks without generation: a model is asked how likely the reference answer is, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.base import BoundTask, Doc, Example, MetricInfo, Request, ScoredItem, TaskSettings

BITS = MetricInfo("bits_per_byte", higher_is_better=False, unit="bits/byte")


class ReferenceAnswers(BoundTask):
    """A bound generative task whose one metric is the reference answer's bits per byte (`gold_bits_per_byte`).

    Rows, parts, prompts and few-shot examples are the task's own. No text is generated, so neither judge nor sandbox
    is needed.

    Args:
        task: a generative task with a reference answer.

    Raises:
        ValueError: it has none.
    """

    primary = BITS.name
    metrics = (BITS,)
    generative = False

    def __init__(self, task: BoundTask) -> None:
        if task.eval_docs() and task.gold_request(task.eval_docs()[0], 0) is None:
            raise ValueError(f"{task.name} has no reference answer to measure.")
        self.task = task
        self.name, self.version, self.settings = task.name, task.version, task.settings
        self.parts, self.groups = task.parts, task.groups
        self.source, self.origin, self.fingerprint = task.source, task.origin, task.fingerprint
        self.deviations, self.split_rows, self.official_rows = task.deviations, task.split_rows, task.official_rows

    def with_settings(self, settings: TaskSettings) -> BoundTask:
        """See `BoundTask.with_settings`."""
        return ReferenceAnswers(self.task.with_settings(settings))

    def eval_docs(self) -> Sequence[Doc]:
        """The task's own."""
        return self.task.eval_docs()

    def example(self, doc: Doc) -> Example:
        """The task's own."""
        return self.task.example(doc)

    def requests(self, doc: Doc, seed: int) -> list[Request]:
        """The reference answer alone."""
        request = self.task.gold_request(doc, seed)
        if request is None:
            raise ValueError(f"{self.name} has no reference answer for {doc.id}.")
        return [request]

    def gold_request(self, doc: Doc, seed: int) -> Request | None:
        """None: it is the request."""
        return None

    def score(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """Bits per byte from the one log-likelihood in nats."""
        ((loglikelihood, _),) = outputs
        return ScoredItem("", "", {BITS.name: self.task.gold_bits_per_byte(doc, loglikelihood)})

    def aggregate(self, items: Sequence[ScoredItem]) -> dict[str, tuple[float, int]]:
        """The mean over items."""
        values = [value for item in items if (value := item.metrics[BITS.name]) is not None]
        return {BITS.name: (sum(values) / len(values), len(values))} if values else {}

    def chance(self) -> float:
        """Bits per byte of a model that finds every byte equally likely."""
        return 8.0

    def majority(self) -> float | None:
        """None: there is no most frequent answer."""
        return None
