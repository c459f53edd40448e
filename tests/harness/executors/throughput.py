"""Runs on raylets of one CPU each, larger than the suite's: `python -m tests.harness.executors.throughput --help`.

Prints the share of the ideal throughput, and whether the records equal those of this process alone but for times.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

from harness.models import bundled_model_folder
from tests.harness.executors.conftest import busy, raylets, sleepers, sleeps
from tests.harness.executors.test_ray import cells
from tests.harness.runs.command import TINY, call
from tests.harness.tiny import llama

METHODS = (
    "base,uniform,random,ties,task-arithmetic,svd,knots,mixer,mixer-none,mole,loramoe,adamole,mola,mixlora,hydralora"
)
TASKS = "sst2,mrpc,arc-e,arc-c"


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[3], help="raylets, each number a run")
    parser.add_argument("--cells", type=int, default=60, help="cells that sleep; 0 for real ones")
    parser.add_argument("--seconds", type=float, default=1.0, help="of sleep a cell")
    parser.add_argument("--limit", type=int, default=4, help="items of a cell")
    parser.add_argument("--kill", action="store_true", help="kill a node once a third of the time is over")
    parser.add_argument("--compare", action="store_true", help="with what this process computes alone")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harness-throughput-") as scratch:
        home = Path(scratch)
        model = llama(home / "tiny-llama", bundled_model_folder("smollm2-135m"))
        methods, tasks = (sleepers(said.cells, said.seconds), "sst2") if said.cells else (METHODS, TASKS)
        line = ["run", "--methods", methods, "--tasks", tasks, *TINY, "--model", str(model), "--device", "cpu"]
        line += ["--limit", str(said.limit)]
        for workers in said.workers:
            run = home / f"run-{workers}"
            os.environ |= {"HARNESS_STAGES": f"{run}-stages", "HARNESS_SLEEPS": f"{run}-sleeps"}
            began = time.time()
            with raylets(workers) as (cluster, nodes):
                up = time.time()
                if said.kill:
                    threading.Thread(target=_kill, args=(cluster, nodes, run), daemon=True).start()
                code = call(*line, "--output", str(run), "--executor", "ray")
            _report(run, workers, code, up - began, time.time() - up)
        if said.compare:
            os.environ |= {"HARNESS_STAGES": str(home / "stages"), "HARNESS_SLEEPS": str(home / "sleeps")}
            began = time.time()
            call(*line, "--output", str(home / "alone"))
            print(f"alone: {time.time() - began:.0f} s in all")  # noqa: T201
            for workers in said.workers:
                equal = cells(home / f"run-{workers}") == cells(home / "alone")
                print(f"{workers} workers and this process alone: records equal: {equal}")  # noqa: T201


def _kill(cluster: object, nodes: list[object], run: Path) -> None:
    while len(list((run / "cells").glob("*/record.json"))) < 12:
        time.sleep(0.1)
    cluster.remove_node(nodes[0], allow_graceful=False)  # type: ignore[attr-defined]


def _report(run: Path, workers: int, code: int, up: float, seconds: float) -> None:
    ends = sorted(path.stat().st_mtime for path in (run / "cells").glob("*/record.json"))
    load = os.getloadavg()[0]
    if len(ends) < 2:
        raise SystemExit(f"{workers} workers: exit code {code}, {len(ends)} records: nothing to measure")
    print(f"{workers} workers: exit code {code}, {len(ends)} records, cluster up in {up:.0f} s, then {seconds:.0f} s")  # noqa: T201
    print(f"  {(len(ends) - 1) / (ends[-1] - ends[0]):.2f} records a second from first to last; load {load:.1f}")  # noqa: T201
    log = Path(os.environ["HARNESS_SLEEPS"])
    if times := sleeps(log):
        spans = [span for one in times.values() for span in one]
        slept = sum(end - start for start, end in spans)
        ideal = slept / workers / (max(end for _, end in spans) - min(start for start, _ in spans))
        print(f"  slept {busy(log):.3f} of the time from a worker's first to its last cell, {ideal:.3f} of that of all")  # noqa: T201


if __name__ == "__main__":
    main()
