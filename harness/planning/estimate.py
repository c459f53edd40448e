"""What a run will cost, before it runs: tokens by kind of work, seconds on this machine, memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.planning.plan import Cell, Plan
from harness.planning.rendered import sample
from harness.training.tuning import trial_scales
from tasks.base import BoundTask

if TYPE_CHECKING:
    from methods.base import Method

BYTES_PER_TOKEN = 3.6
"""Rough length of a token of English text, for estimates only."""
TRAINING_FACTOR = 3.0
"""A training step costs about three forward passes; with frozen weights somewhat less."""
DECODING_PENALTY = 6.0
"""Generated tokens cost this many prompt tokens' time at the batch sizes used here."""
EFFICIENCY = 0.45
"""Share of the measured matrix-product rate that a whole model reaches."""


@dataclass(frozen=True)
class Work:
    """Tokens of one job: prompt-like forward tokens, trained tokens, generated tokens."""

    forward: float = 0.0
    trained: float = 0.0
    generated: float = 0.0

    @property
    def equivalent(self) -> float:
        """Forward-token equivalents."""
        return self.forward + TRAINING_FACTOR * self.trained + DECODING_PENALTY * self.generated

    def times(self, number: float) -> Work:
        """The same as often as that."""
        return Work(number * self.forward, number * self.trained, number * self.generated)


def expert_work(plan: Plan, tasks: list[BoundTask]) -> Work:
    """Stage 1 of one expert."""
    section = plan.config.experts
    available = sum(_text_tokens(task, "expert-train") for task in tasks) * section.epochs
    return Work(trained=min(available, section.tokens or available))


def fit_work(plan: Plan, method: Method) -> Work:
    """Training of one method within the budgets that it spends, as often as it is tried."""
    trained = 0.0
    if "router" in method.budgets():
        section, tasks = plan.config.routers, plan.routing_tasks()
        rows = sum(len(task.parts["router-train"]) for task in tasks)
        available = sum(_text_tokens(task, "router-train") for task in tasks) * section.epochs
        if section.examples is not None and rows:
            available *= min(1.0, section.examples / rows)
        trained += min(available, section.tokens or available)
    if "expert" in method.budgets():
        trained += sum(expert_work(plan, tasks).trained for tasks in plan.pool_tasks().values())
    passes = method.passes(len(plan.config.experts.names))
    return Work(trained=trained * passes * max(1, len(trial_scales(plan.config, method))))


def evaluation_work(cell: Cell) -> Work:
    """Evaluation of one cell: what its task asks of a model, and the passes that each request takes."""
    return asked_work(cell.task.bound, cell.seed).times(cell.method.method.passes(len(cell.pool)))


def asked_work(bound: BoundTask, seed: int) -> Work:
    """A task's requests to a plain model."""
    asked = sample(bound, seed)
    return Work(forward=asked.read / BYTES_PER_TOKEN, generated=asked.generated)


def tokens_per_second(parameters: int, device: str) -> float:
    """Forward tokens a second of a dense model, from a timed matrix product on this machine."""
    import torch

    flops = _flops_per_second(device, torch.get_num_threads(), torch.get_float32_matmul_precision())
    return EFFICIENCY * flops / (2 * parameters)


@cache
def _flops_per_second(device: str, _threads: int, _precision: str) -> float:
    """Of a float32 matrix product, timed once in a process for each number of threads and each way of rounding."""
    import torch

    size = 1024 if device == "cpu" else 4096
    a = torch.randn(size, size, generator=torch.Generator(device).manual_seed(0), device=device)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def parameter_count(config: object) -> int:
    """Parameters of a model from its configuration alone (meta device, no weights)."""
    from methods.shapes import meta_model

    return sum(parameter.numel() for parameter in meta_model(config).parameters())


def _text_tokens(task: BoundTask, part: str) -> float:
    docs = task.parts[part]  # type: ignore[index]
    sample = docs[:: max(1, len(docs) // 16)][:16]
    if not sample:
        return 0.0
    lengths = [len(example.prompt) + len(example.target) for example in map(task.example, sample)]
    return sum(lengths) / len(sample) / BYTES_PER_TOKEN * len(docs)
