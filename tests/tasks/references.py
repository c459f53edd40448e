"""Every reference solution of HumanEval and MBPP at every level of the sandbox: `python -m tests.tasks.references`."""

from __future__ import annotations

import sys
import time

from harness.planning.sources import open_source
from tasks import registry
from tasks.base import TaskSettings
from tasks.sandbox import Outcome, evaluate_programs
from tasks.sandbox.levels import NAMES, named


def main() -> None:
    """Print, by level and set, how many pass; exit code 1 where one does not."""
    source, failed = open_source("bundled"), 0
    for name in NAMES:
        level = named(name)
        if (reason := level.missing()) is not None:
            sys.stdout.write(f"{name}: not here, {reason}\n")
            continue
        for kind in ("humaneval", "mbpp"):
            task = registry.create(kind).bind(source, TaskSettings())
            docs = [doc for rows in task.parts.values() for doc in rows]
            programs = [task.program(doc, task.example(doc).target) for doc in docs]
            start = time.perf_counter()
            verdicts = evaluate_programs(programs, level=level)
            wrong = [p.id for p, v in zip(programs, verdicts, strict=True) if v.outcome is not Outcome.PASSED]
            failed += len(wrong)
            seconds = time.perf_counter() - start
            sys.stdout.write(f"{name}: {kind} {len(docs) - len(wrong)} of {len(docs)} in {seconds:.0f} s {wrong[:5]}\n")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
