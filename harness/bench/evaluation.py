"""Likelihood of answers, against lm-evaluation-harness's own model on the same instances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.bench.measure import Options, Row
from harness.bench.peer import duel, fastest, instances
from harness.evaluation.lm import EvaluationLM
from harness.models import load
from harness.planning.sources import open_source
from tasks import registry
from tasks.base import TaskSettings

CASES: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("likelihood, 0 shots", {"shots": 0}, 2.0),
    ("likelihood, 5 fixed shots", {"shots": 5, "fewshot": "fixed"}, 10.0),
    ("likelihood, 5 per-item shots", {"shots": 5, "fewshot": "per_item"}, 3.0),
)


def evaluation(options: Options) -> Iterator[Row]:
    """ARC-Easy at 0 shots, with one set of 5 shots for all items, and with 5 shots of each item's own."""
    base = load(options.model)
    source = open_source(options.data)
    for name, settings, target in CASES:
        if not options.wants(name):
            continue
        bound = registry.create("arc-e").bind(source, TaskSettings(limit=options.items or 200, **settings))
        docs = bound.eval_docs()
        asked = instances([request for doc in docs for request in bound.requests(doc, 0)])
        batch = fastest(base, "loglikelihood", asked, options)
        lm = EvaluationLM(base.model, base.tokenizer)
        setting = f"arc-e, {len(docs)} items, {lm.path} path; HFLM batch size {batch}"
        found = duel(base, lm, batch, "loglikelihood", asked, options)
        yield Row(
            name=name,
            setting=setting,
            peer="lm-eval HFLM",
            seconds=found.seconds,
            peer_seconds=found.peer_seconds,
            limit=found.limit,
            target=target,
            agreement=agreement(found.ours, found.theirs),
        )


def agreement(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> str:
    """The largest difference, and on how many continuations the greedy flags differ."""
    worst = max(abs(one[0] - other[0]) for one, other in zip(ours, theirs, strict=True))
    differ = sum(one[1] != other[1] for one, other in zip(ours, theirs, strict=True))
    return f"largest difference {worst:.1e} nats, {differ} of {len(ours)} greedy flags differ"
