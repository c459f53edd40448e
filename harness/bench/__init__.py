"""Side-by-side measurements against what people use today: `harness bench NAME [--json]`.

A benchmark is a function that yields `Row`s; both sides run in one process, taking turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from results.ground.names import unknown

if TYPE_CHECKING:
    from harness.bench.measure import Options, Row

BENCHMARKS: Mapping[str, str] = {
    "accelerator": "harness.bench.accelerator:accelerator",
    "engine": "harness.bench.engine:engine",
    "evaluation": "harness.bench.evaluation:evaluation",
    "generation": "harness.bench.generation:generation",
    "pipeline": "harness.bench.pipeline:pipeline",
    "plans": "harness.bench.plans:plans",
    "routing": "harness.bench.routing:routing",
    "scaling": "harness.bench.scaling:scaling",
    "startup": "harness.bench.startup:startup",
    "training": "harness.bench.training:training",
}
"""Where each benchmark is; imported when it runs."""
ON_DEVICES = ("accelerator", "routing", "scaling")
"""Benchmarks that can be told where to compute, in which type, and with which weights; the others measure on the
processor."""


def benchmark(name: str) -> Callable[[Options], Iterator[Row]]:
    """The benchmark of that name.

    Raises:
        HarnessError: there is none; the message names those there are.
    """
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    module, _, function = BENCHMARKS[name].partition(":")
    found: Callable[[Options], Iterator[Row]] = getattr(import_module(module), function)
    return found
