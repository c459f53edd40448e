"""A whole comparison's evaluation: six methods on six tasks, against the same models behind lm-eval's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

from harness.bench.evaluation import agreement
from harness.bench.measure import Options, Row, by_turns
from harness.bench.peer import fastest, instances
from harness.bench.pipeline_side import POOL, RANK, SHOTS, TASKS, Job, Result
from harness.models import load
from harness.planning.sources import open_source
from tasks import registry
from tasks.base import TaskSettings

METHODS = ("base", "lora", "uniform", "mixer", "mole", "phatgoose")
ITEMS = 50


def pipeline(options: Options) -> Iterator[Row]:
    """One process of ours for all methods; one of the other side's for each, as scripts around lm-eval do it."""
    items, batch = options.items or ITEMS, peer_batch(options)
    results: dict[str, list[Result]] = {}

    def run(side: str, groups: Sequence[Sequence[str]]) -> None:
        results[side] = [
            process(
                Job.model_validate(
                    {
                        "side": side,
                        "methods": group,
                        "model": options.model,
                        "data": options.data,
                        "items": items,
                        "batch": batch,
                    }
                )
            )
            for group in groups
        ]

    seconds, peer_seconds = by_turns(
        lambda: run("ours", [METHODS]), lambda: run("theirs", [[method] for method in METHODS]), options
    )
    ours, theirs = (
        [pair for result in results[side] for tasks in result.scores.values() for own in tasks.values() for pair in own]
        for side in ("ours", "theirs")
    )
    yield Row(
        name="six methods on six tasks",
        setting=f"{', '.join(METHODS)} on {', '.join(TASKS)}; {items} items each, {SHOTS} fixed shots, {len(POOL)} "
        f"experts of rank {RANK}; start and loading included; HFLM batch size {batch}",
        peer="lm-eval HFLM, one process a method",
        seconds=seconds,
        peer_seconds=peer_seconds,
        limit=sum(r.work for r in results["theirs"]) / sum(r.work for r in results["ours"]),
        target=4.0,
        agreement=agreement(ours, theirs),
    )


def process(job: Job) -> Result:
    """Do a job in a new process."""
    command = [sys.executable, "-m", "harness.bench.pipeline_side"]
    # What libraries print comes before the result, which is the last line.
    done = subprocess.run(command, check=True, input=job.model_dump_json(), stdout=subprocess.PIPE, text=True)
    return Result.model_validate_json(done.stdout.splitlines()[-1])


def peer_batch(options: Options) -> int:
    """The other side's fastest batch size, on a sample of ARC-Easy's requests."""
    if len(options.peer_batches) == 1:
        return options.peer_batches[0]
    bound = registry.create("arc-e").bind(open_source(options.data), TaskSettings(shots=SHOTS, limit=16))
    asked = instances([request for doc in bound.eval_docs() for request in bound.requests(doc, 0)])
    return fastest(load(options.model), "loglikelihood", asked, options)
