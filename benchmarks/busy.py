"""How much a second busy process slows a run: `python benchmarks/busy.py`.

Forward passes of the bundled model in a process with as many threads as cores, alone and beside a process that keeps
one core busy, with threads that wait for each other spinning (OpenMP's own choice) and asleep (what `import harness`
asks for).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORK = """
import os, statistics, sys, time
import torch
from harness.models import load
model = load("smollm2-135m").model
ids = torch.randint(0, 1000, (4, 100))
seconds = []
with torch.inference_mode():
    for _ in range(int(sys.argv[1]) + 1):
        started = time.perf_counter()
        model(input_ids=ids, use_cache=False)
        seconds.append(time.perf_counter() - started)
print(statistics.median(seconds[1:]))
"""
POLICIES = {"spinning": "ACTIVE", "asleep": "PASSIVE"}


@contextmanager
def busy() -> Iterator[None]:
    """A process that computes all the time."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def seconds(policy: str, turns: int = 9) -> float:
    """Median of a forward pass in a process of its own."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(turns)], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    from harness.bench.measure import machine

    found: dict[tuple[str, bool], list[float]] = {}
    for _ in range(3):
        for name, policy in POLICIES.items():
            found.setdefault((name, False), []).append(seconds(policy))
            with busy():
                found.setdefault((name, True), []).append(seconds(policy))
    for name in POLICIES:
        alone, beside = (statistics.median(found[name, other]) for other in (False, True))
        sys.stdout.write(f"threads {name}: {alone:.3f} s alone, {beside:.3f} s beside one: {beside / alone:.2f}x\n")
    sys.stdout.write(f"{machine('cpu')}\n")


if __name__ == "__main__":
    main()
