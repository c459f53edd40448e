"""Scores of a base model beside lm-evaluation-harness's own, on the same items.

The other side is lm-eval from end to end: its task file, its prompts, its Hugging Face model, its metrics. It gets the
rows alone. Ours is the bound task and the evaluation model, as in a run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from harness.bench.peer import hflm, quiet

if TYPE_CHECKING:
    from harness.models import BaseModel as LoadedModel
    from tasks.base import Doc
    from tasks.lm_eval_task import LmEvalBound

TOLERANCE = 1e-4
"""Largest accepted difference of a log-likelihood, of its size where that is above 1 nat: float32 in another order."""


class Agreement(BaseModel):
    """One task on both sides.

    Attributes:
        task: name of ours.
        file: lm-eval's task file; the note in parentheses says what had to be changed in it.
        version: of lm-eval's file and of our card.
        source: where the rows came from.
        items: how many.
        requests: continuations scored.
        other_texts: requests whose prompt or continuation is another text on the other side.
        largest_difference: of a log-likelihood, in nats.
        largest_share: of a log-likelihood's difference in its size (at least 1 nat).
        greedy_differ: continuations whose "is the greedy answer" flag differs.
        answers_differ: items whose most likely continuation differs.
        metrics: by name, our value and lm-eval's. A name that ends in `*` is not in lm-eval's file: that value is
            computed from its log-likelihoods.
        seconds: ours, theirs.
    """

    task: str
    file: str
    version: str
    source: str
    items: int
    requests: int
    other_texts: int
    largest_difference: float
    largest_share: float
    greedy_differ: int
    answers_differ: int
    metrics: dict[str, tuple[float, float]]
    seconds: tuple[float, float]

    @property
    def equal(self) -> bool:
        """Whether both sides say the same."""
        same = all(abs(ours - theirs) < 1e-9 for ours, theirs in self.metrics.values())
        differing = self.other_texts + self.greedy_differ + self.answers_differ
        return same and not differing and self.largest_share <= TOLERANCE


class Side(NamedTuple):
    """What one side found."""

    texts: list[list[tuple[str, str]]]
    outputs: list[list[tuple[float, bool]]]
    metrics: dict[str, float]
    seconds: float


def compare(base: LoadedModel, bound: LmEvalBound, batch: int) -> Agreement:
    """Score the eval items of a likelihood task on both sides.

    Args:
        base: the loaded model, without any adapter.
        bound: a task with choices at 0 shots: lm-eval draws few-shot examples by order, so they cannot be the same.
        batch: batch size of lm-eval's side.
    """
    ours, theirs = our_side(base, bound), their_side(base, bound, batch)
    pairs = [
        pair for own, other in zip(ours.outputs, theirs.outputs, strict=True) for pair in zip(own, other, strict=True)
    ]
    texts = [pair for own, other in zip(ours.texts, theirs.texts, strict=True) for pair in zip(own, other, strict=True)]
    metrics = {name: (ours.metrics[name], value) for name, value in theirs.metrics.items() if name in ours.metrics}
    docs = bound.eval_docs()
    for name, (value, _) in bound.aggregate(bound.score_all(docs, theirs.outputs)).items():
        if name not in metrics:
            metrics[f"{name}*"] = (ours.metrics[name], value)
    return Agreement(
        task=bound.name,
        file=lm_eval_file(bound),
        version=bound.version,
        source=f"{bound.source} ({bound.origin})",
        items=len(ours.outputs),
        requests=len(pairs),
        other_texts=sum(own != other for own, other in texts),
        largest_difference=max(abs(own[0] - other[0]) for own, other in pairs),
        largest_share=max(abs(own[0] - other[0]) / max(1.0, abs(other[0])) for own, other in pairs),
        greedy_differ=sum(own[1] != other[1] for own, other in pairs),
        answers_differ=sum(_best(own) != _best(other) for own, other in zip(ours.outputs, theirs.outputs, strict=True)),
        metrics=metrics,
        seconds=(ours.seconds, theirs.seconds),
    )


def our_side(base: LoadedModel, bound: LmEvalBound) -> Side:
    """The bound task through the evaluation model."""
    from harness.evaluation.lm import EvaluationLM

    docs = bound.eval_docs()
    asked = [bound.requests(doc, 0) for doc in docs]
    lm = EvaluationLM(base.model, base.tokenizer)
    started = time.perf_counter()
    scored = iter(lm.score([request for own in asked for request in own]))
    outputs = [[tuple(next(scored)) for _ in own] for own in asked]
    seconds = time.perf_counter() - started
    totals = bound.aggregate(bound.score_all(docs, outputs))
    texts = [[(request.prefix + request.context, request.continuation) for request in own] for own in asked]
    return Side(texts, outputs, {name: value for name, (value, _) in totals.items()}, seconds)


def their_side(base: LoadedModel, bound: LmEvalBound, batch: int) -> Side:
    """lm-eval's task over the same rows, evaluated by lm-eval with its own model."""
    from lm_eval.evaluator import evaluate

    task = lm_eval_task(bound, bound.eval_docs())
    with quiet():
        lm = hflm(base, batch)
        started = time.perf_counter()
        found = evaluate(lm, {bound.name: task}, bootstrap_iters=0)
        seconds = time.perf_counter() - started
    assert found is not None
    grouped: list[list[Any]] = [[] for _ in bound.eval_docs()]
    for instance in sorted(task.instances, key=lambda instance: instance.idx):
        grouped[instance.doc_id].append(instance)
    texts = [[instance.args for instance in own] for own in grouped]
    outputs = [[instance.resps[0] for instance in own] for own in grouped]
    metrics = {
        key.removesuffix(",none"): float(value)
        for key, value in found["results"][bound.name].items()
        if key.endswith(",none") and isinstance(value, float | int)
    }
    return Side(texts, outputs, metrics, seconds)


def lm_eval_task(bound: LmEvalBound, docs: Sequence[Doc]) -> Any:
    """lm-eval's own task object from its task file; only the data set is replaced."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    config = bound.task.config(bound.settings) if _adapted(bound) else _published(bound)
    rows = datasets.Dataset.from_list([bound.task.view(dict(doc.row)) for doc in docs])
    config |= {"task": bound.name, "training_split": None, "validation_split": None, "test_split": "rows"}
    config |= {"fewshot_split": None, "num_fewshot": 0, "dataset_kwargs": None, "metadata": None}
    return ConfigurableTask(config=config | {"custom_dataset": lambda **_: {"rows": rows}})


def lm_eval_file(bound: LmEvalBound) -> str:
    """Name of the file, and whether it had to be adapted."""
    assert bound.task.card.lm_eval is not None
    return bound.task.card.lm_eval.file + (" (adapted)" if _adapted(bound) else "")


def _published(bound: LmEvalBound) -> dict[str, Any]:
    from tasks.lm_eval_adapter import task_file

    assert bound.task.card.lm_eval is not None
    return task_file(bound.task.card.lm_eval.file)


def _adapted(bound: LmEvalBound) -> bool:
    """Whether ours is a task that lm-eval does not have as such: a configuration of its own over lm-eval's file."""
    from tasks.lm_eval_task import LmEvalTask

    return type(bound.task).config is not LmEvalTask.config


def _best(outputs: Sequence[tuple[float, bool]]) -> int:
    return max(range(len(outputs)), key=lambda i: outputs[i][0])
