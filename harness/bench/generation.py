"""Greedy decoding, against lm-evaluation-harness's own model on the same instances."""

from __future__ import annotations

from collections.abc import Iterator

from harness.bench.measure import Options, Row
from harness.bench.peer import duel, fastest, instances
from harness.evaluation.lm import EvaluationLM
from harness.models import load
from harness.planning.sources import open_source
from tasks import registry
from tasks.base import TaskSettings

NEW_TOKENS = 128


def generation(options: Options) -> Iterator[Row]:
    """GSM8K with 5 fixed shots and 128 new tokens: each side with its own batch, then both with the peer's."""
    base = load(options.model)
    settings = TaskSettings(shots=5, fewshot="fixed", limit=options.items or 64, max_new_tokens=NEW_TOKENS)
    bound = registry.create("gsm8k").bind(open_source(options.data), settings)
    docs = bound.eval_docs()
    asked = instances([request for doc in docs for request in bound.requests(doc, 0)])
    batch = fastest(base, "generate_until", asked, options)
    for name, rows, target in (
        ("generation, own batch sizes", 64, 2.5),
        ("generation, equal batch size", batch, 1.3),
    ):
        if not options.wants(name):
            continue
        lm = EvaluationLM(base.model, base.tokenizer, batch_rows=rows)
        setting = (
            f"gsm8k, {len(docs)} items, 5 fixed shots, {NEW_TOKENS} new tokens, {lm.path} path, {rows} rows; "
            f"HFLM batch size {batch}"
        )
        found = duel(base, lm, batch, "generate_until", asked, options)
        equal = sum(one == other for one, other in zip(found.ours, found.theirs, strict=True))
        yield Row(
            name=name,
            setting=setting,
            peer="lm-eval HFLM",
            seconds=found.seconds,
            peer_seconds=found.peer_seconds,
            limit=found.limit,
            target=target,
            agreement=f"{equal} of {len(asked)} texts equal",
        )
