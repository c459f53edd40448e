"""One side of the pipeline benchmark, in a process of its own: `python -m harness.bench.pipeline_side < job`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import BaseModel

TASKS = ("sst2", "mrpc", "rte", "arc-e", "arc-c", "piqa")
POOL = ("sst2", "mrpc", "rte", "arc", "piqa", "gsm8k")
RANK, SHOTS = 16, 5


class Job(BaseModel):
    """What a process has to do.

    Attributes:
        side: `ours` for the harness's evaluation model, `theirs` for lm-eval's Hugging Face model.
        methods: evaluated one after the other on one loaded base.
        model: base model.
        data: source.
        items: of each task.
        batch: batch size of lm-eval's model.
    """

    side: Literal["ours", "theirs"]
    methods: tuple[str, ...]
    model: str
    data: str
    items: int
    batch: int


class Result(BaseModel):
    """Likelihoods by method and task, and the multiply-adds of the base's linear layers."""

    scores: dict[str, dict[str, list[tuple[float, bool]]]]
    work: int


def evaluated(job: Job) -> Result:
    """Compose every method from random experts and untrained routers, and score every task."""
    from harness.bench.measure import WorkCounter
    from harness.bench.peer import instances
    from harness.models import load
    from harness.planning.sources import open_source
    from tasks import registry
    from tasks.base import TaskSettings

    base = load(job.model)
    source = open_source(job.data)
    asked = {}
    for name in TASKS:
        bound = registry.create(name).bind(source, TaskSettings(shots=SHOTS, limit=job.items))
        asked[name] = instances([request for doc in bound.eval_docs() for request in bound.requests(doc, 0)])
    counter = WorkCounter(base.model)
    scores: dict[str, dict[str, list[tuple[float, bool]]]] = {}
    for method in job.methods:
        scores[method] = {}
        for names, score in installed(job, base, method):
            for name in names:
                scores[method][name] = score(name, asked[name])
    return Result(scores=scores, work=counter.take())


def installed(job: Job, base: Any, method: str) -> Iterator[tuple[tuple[str, ...], Callable[[str, list[Any]], Any]]]:
    """Each composed model that a method needs, as the tasks it serves and what scores them."""
    from methods import registry as methods
    from methods.tiny import tiny_experts
    from tasks import registry

    made = methods.create(method)
    experts = tiny_experts(base.model, POOL, rank=RANK)
    for names in [(name,) for name in TASKS] if made.per_task() else [TASKS]:
        used = made.depends_on(POOL, registry.card(names[0]).expert)
        composed = made.install(base.model, [expert for expert in experts if expert.name in used], seed=0)
        with scorer(job, base, composed) as score:
            yield names, score
        composed.uninstall()


@contextmanager
def scorer(job: Job, base: Any, composed: Any) -> Iterator[Callable[[str, list[Any]], Any]]:
    """Scores the instances of a task with one side's evaluation model."""
    from harness.bench.peer import hflm, quiet
    from harness.evaluation.lm import EvaluationLM
    from tasks import registry

    if job.side == "ours":
        lm: Any = EvaluationLM.of(composed, base.tokenizer)
    else:
        lm = hflm(base, job.batch)

    def score(name: str, asked: list[Any]) -> Any:
        if job.side == "theirs":
            with quiet():
                return lm.loglikelihood(asked, disable_tqdm=True)
        with composed.task(name, registry.card(name).expert):
            return lm.loglikelihood(asked, disable_tqdm=True)

    yield score


def main() -> None:
    """Read a job, write its result."""
    job = Job.model_validate(json.load(sys.stdin))
    sys.stdout.write(evaluated(job).model_dump_json())


if __name__ == "__main__":
    main()
