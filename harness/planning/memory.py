"""How much memory a run will take at most, before it runs: weights, the pool, and what the widest step keeps.

A step of training keeps what every linear layer gave until its gradient is taken. How many numbers that is for each
output of a layer was measured on three models as the growth of a process from 400 to 1,600 tokens; the sum is linear in
tokens.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from harness.planning.estimate import BYTES_PER_TOKEN
from results.ground.digest import seed_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.planning.plan import Plan
    from harness.planning.sections import OptimisationSection
    from tasks.base import BoundTask

KEPT = 1.7
"""Numbers that a step keeps for each output of a linear layer: the output, and what follows from it."""
ROUTED = 0.28
"""More of them for each output of a routed site, by expert."""
ADAPTED = 4.0
"""More of them for each output of a site with one LoRA in training."""
SCORED = 4
"""Numbers kept for each entry of the vocabulary at a target: logits, their softmax, gradients."""
MOMENTS = 4
"""Numbers for each trained one: itself, its gradient, and AdamW's two."""
PROCESS = 0.85e9
"""Bytes of a process that has loaded torch, transformers and the rest, and computed nothing."""
PASSES = 0.5
"""Numbers that passes without gradients keep for each of the base's: activations and caches."""
WIDTH = 4
_LENGTHS = 64
"""Rows of a task whose lengths are looked at."""


def peak_bytes(plan: Plan, parameters: int, weights: int | None = None, *, packs: bool = False) -> int:
    """Bytes that a run takes at most, about: of its experts, fits and evaluations whichever takes most.

    Args:
        plan: of the run.
        parameters: of the base model.
        weights: bytes of its weights, where they are not stored in `model.dtype`.
        packs: whether methods that can are trained without padding here.
    """
    width = 4 if plan.config.model.dtype == "float32" else 2
    held = parameters * width if weights is None else weights
    pool = {name: plan.pool_expert(name).numbers for name in plan.config.experts.names}
    evaluated = PROCESS + held + width * PASSES * parameters + WIDTH * sum(pool.values())
    steps = [evaluated, *_experts(plan, width, held, pool), *_fits(plan, width, held, pool, packs)]
    return int(max(steps))


def _experts(plan: Plan, width: int, held: int, pool: dict[str, int]) -> Iterable[float]:
    """Peaks of training each expert."""
    section = plan.config.experts
    for name, numbers in pool.items():
        if name not in section.paths:
            tokens, _, targets = _widest(plan.expert_tasks(name), "expert-train", section)
            kept = _per_token(plan, ADAPTED) * tokens + SCORED * _vocabulary(plan) * targets
            yield PROCESS + held + width * kept + WIDTH * MOMENTS * numbers


def _fits(plan: Plan, width: int, held: int, pool: dict[str, int], packs: bool) -> Iterable[float]:
    """Peaks of fits, which differ by whether they train the pool too and whether their rows are padded."""
    trained = [choice.method for choice in plan.methods if choice.method.trains()]
    if trained:
        padded, tokens, targets = _widest(plan.routing_tasks(), "router-train", plan.config.routers)
        each = _per_token(plan, ROUTED * len(pool))
        for method in trained:
            kept = each * (tokens if packs and not method.pads() else padded) + SCORED * _vocabulary(plan) * targets
            moments = MOMENTS if "expert" in method.budgets() else 1
            yield PROCESS + held + width * kept + WIDTH * moments * sum(pool.values())


def _per_token(plan: Plan, more: float) -> float:
    """Numbers that a step keeps for each token, the head's apart."""
    from methods.shapes import config_shapes

    sites = {path for name in plan.config.experts.names for path in plan.pool_expert(name).sites}
    shapes = config_shapes(plan.model_config)
    kept = [(KEPT + (more if path in sites else 0.0)) * outputs for path, (outputs, _) in shapes.items()]
    return sum(kept)


def _vocabulary(plan: Plan) -> int:
    return int(plan.model_config.get_text_config(decoder=True).vocab_size)


def _widest(tasks: Sequence[BoundTask], part: str, section: OptimisationSection) -> tuple[float, float, float]:
    """Tokens with padding, tokens without, and target tokens of the largest micro-batch that a budget gets to see, from
    sampled rows of the tasks."""
    lengths = [own for task in tasks if (own := _lengths(task, part, section.max_length))]
    if not lengths:
        return 0.0, 0.0, 0.0
    draw = random.Random(seed_from("memory", part))
    usual = sum(sum(length for length, _ in own) / len(own) for own in lengths) / len(lengths)
    rows = [len(task.parts[part]) for task in tasks]  # type: ignore[index]
    budget = section.tokens or usual * sum(rows)
    batches = int(min(1000, max(1, budget / (usual * section.micro_batch_size))))
    drawn = [[draw.choice(draw.choice(lengths)) for _ in range(section.micro_batch_size)] for _ in range(batches)]
    return (
        max(len(batch) * max(length for length, _ in batch) for batch in drawn),
        max(sum(length for length, _ in batch) for batch in drawn),
        max(sum(target for _, target in batch) for batch in drawn),
    )


def _lengths(task: BoundTask, part: str, longest: int) -> list[tuple[float, float]]:
    """Tokens of rows, and of their targets, about."""
    docs = task.parts[part]  # type: ignore[index]
    found = []
    for doc in docs[:: max(1, len(docs) // _LENGTHS)][:_LENGTHS]:
        example = task.example(doc)
        target = len(example.target) / BYTES_PER_TOKEN
        found.append((min(longest, len(example.prompt) / BYTES_PER_TOKEN + target), min(longest, target)))
    return found
