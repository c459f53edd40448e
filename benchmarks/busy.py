"""How much a second busy process slows a run: `python benchmarks/busy.py`.

Passes of the bundled model over 400 tokens and over one, in a process with as many threads as cores, alone and beside
a process that keeps one core busy; threads that wait for each other spin as long as OpenMP has it by itself, sleep at
once, or spin for a moment first (what `import harness` asks for).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

WORK = """
import os, statistics, sys, time
from harness.models import load
import torch
model = load("smollm2-135m").model
for shape in (4, 100), (1, 1):
    ids, seconds = torch.randint(0, 1000, shape), []
    with torch.inference_mode():
        for _ in range(int(sys.argv[1]) + 1):
            started = time.perf_counter()
            model(input_ids=ids, use_cache=False)
            seconds.append(time.perf_counter() - started)
    print(statistics.median(seconds[1:]))
"""
POLICIES = {
    "spin": {"GOMP_SPINCOUNT": "300000"},
    "sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin for a moment": {},
}


@contextmanager
def busy() -> Iterator[None]:
    """A process that computes all the time."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def seconds(policy: Mapping[str, str], turns: int = 9) -> tuple[float, float]:
    """Medians of a pass over 400 tokens and over one, in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment = clean | policy | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(turns)], env=environment, check=True, capture_output=True, text=True
    )
    many, one = map(float, done.stdout.split())
    return many, one


def main() -> None:
    from harness.bench.measure import machine

    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(3):
        for name, policy in POLICIES.items():
            found.setdefault((name, False), []).append(seconds(policy))
            with busy():
                found.setdefault((name, True), []).append(seconds(policy))
    for name in POLICIES:
        sys.stdout.write(f"threads {name}:")
        for index, tokens in enumerate(("400 tokens", "one token")):
            alone, beside = (
                1e3 * statistics.median(one[index] for one in found[name, other]) for other in (False, True)
            )
            sys.stdout.write(f" {tokens} {alone:.0f} ms alone, {beside:.0f} ms beside one ({beside / alone:.2f}x);")
        sys.stdout.write("\n")
    sys.stdout.write(f"{machine('cpu')}\n")


if __name__ == "__main__":
    main()
