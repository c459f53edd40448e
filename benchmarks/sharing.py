"""What several routers, or several experts in training, could share in one pass: `python benchmarks/sharing.py`.

Routers over one pool see the same hidden states until the first routed layer answers; from there on every variant
computes its own. So at most the multiply-adds up to there are shared, of a forward pass for evaluation or of a training
step. Experts that train together on rows of their own share no products at all, but make larger ones: how much that is
worth is timed, as tokens a second of a step through the frozen base with few rows and with as many as six experts have.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.bench.composed import pool, routed
from harness.bench.measure import machine, multiply_adds
from harness.models import load

VARIANTS = (2, 6, 24)


class _Reached(Exception):
    """The first layer that hears of a router."""


@contextmanager
def _ending_at(module: nn.Module) -> Iterator[None]:
    def end(*_: object) -> None:
        raise _Reached

    handle = module.register_forward_pre_hook(end)
    try:
        yield
    finally:
        handle.remove()


def shared(model: nn.Module, experts: int, rank: int, tokens: int) -> tuple[float, float, float]:
    """Multiply-adds: up to the end of the first layer's q, k and v (their experts' updates included, so too many rather
    than too few), of a whole forward pass, and of a step of router training."""
    ids = torch.randint(0, model.config.vocab_size, (1, tokens))
    composed = routed(model, pool(model, experts, rank))
    try:
        sites = list(composed.sites)
        after = next(name for name in sites if "o_proj" in name)

        def first() -> None:
            with _ending_at(model.get_submodule(after)), torch.no_grad():
                try:
                    model(input_ids=ids, use_cache=False)
                except _Reached:
                    return
                raise RuntimeError(f"{after} was not reached")

        def whole() -> None:
            with torch.no_grad():
                model(input_ids=ids, use_cache=False)

        def step() -> None:
            logits: Tensor = model(input_ids=ids, use_cache=False).logits
            logits.float().logsumexp(-1).mean().backward()  # type: ignore[no-untyped-call]

        return multiply_adds(first), multiply_adds(whole), multiply_adds(step)
    finally:
        composed.uninstall()


def limit(common: float, total: float, variants: int) -> float:
    """How many times faster that many variants are together than one after the other, at most."""
    return variants * total / (common + variants * (total - common))


def tokens_per_second(model: nn.Module, rows: int, length: int, turns: int) -> float:
    """Of a forward and backward pass to the embeddings, weights frozen."""
    embeddings: Callable[[Tensor], Tensor] = model.get_input_embeddings()  # type: ignore[operator]
    best = float("inf")
    for _ in range(turns):
        started = time.perf_counter()
        inputs = embeddings(torch.randint(0, 1000, (rows, length))).requires_grad_(True)
        model(inputs_embeds=inputs, use_cache=False).logits.float().logsumexp(-1).mean().backward()
        best = min(best, time.perf_counter() - started)
    return rows * length / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--experts", type=int, default=6)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    model = load(asked.model).model
    first, whole, step = shared(model, asked.experts, asked.rank, tokens=128)
    for what, total in (("a forward pass", whole), ("a step of router training", step)):
        limits = ", ".join(f"{n} variants at most {limit(first, total, n):.3f}x" for n in VARIANTS)
        sys.stdout.write(f"{what}: {first / total:.2%} of its multiply-adds come before the first router; {limits}\n")
    few, many = (tokens_per_second(model, rows, 100, asked.turns) for rows in (4, 24))
    sys.stdout.write(
        f"frozen base, forward and backward: {few:.0f} tokens/s with 4 rows, {many:.0f} with 24: {many / few:.2f}x\n"
    )
    sys.stdout.write(f"{machine('cpu')}\n")


if __name__ == "__main__":
    main()
