"""Judge many programs: hold the time limits, keep some at work at a time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from results.ground.digest import text_sha256
from tasks.sandbox import session
from tasks.sandbox.hiding import undumpable
from tasks.sandbox.level import Level
from tasks.sandbox.model import Limits, Outcome, Program, Verdict

T = TypeVar("T")

DEFAULT_LIMITS = Limits()

_known_limits: dict[str, float] = {}
"""Seconds allowed per program, by a hash of what determines them; measured once per process."""


def evaluate_programs(
    programs: Sequence[Program],
    level: Level,
    *,
    workers: int = 2,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Verdict]:
    """Verdicts in the order of `programs`, which run at a level of isolation (`levels.strongest` chooses one).

    At levels that share processes, programs run one after the other.
    """
    if not programs:
        return []
    if not level.shares_processes:
        return run_coroutine(_evaluate(programs, level, limits, workers))
    with undumpable():
        return run_coroutine(_evaluate(programs, level, limits, 1))


async def _evaluate(programs: Sequence[Program], level: Level, limits: Limits, workers: int) -> list[Verdict]:
    free = asyncio.Semaphore(workers)

    async def one(program: Program) -> Verdict:
        async with free:
            return await _judge(program, level, limits)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(program)) for program in programs]
    return [task.result() for task in tasks]


async def _judge(program: Program, level: Level, limits: Limits) -> Verdict:
    """Most candidates end within the floor; the reference is only timed for those that do not."""
    key = _limit_key(program, level, limits)
    allowed = _known_limits.get(key, limits.floor)
    verdict = await session.run(program, level, limits, allowed)
    if verdict.outcome is not Outcome.TIMEOUT or key in _known_limits or program.reference is None:
        return verdict
    reference = dataclasses.replace(program, code=program.reference)
    timed = await session.run(reference, level, limits, limits.ceiling)
    if timed.outcome is Outcome.PASSED:
        _known_limits[key] = min(max(limits.factor * timed.used, limits.floor), limits.ceiling)
    else:
        _known_limits[key] = limits.floor
    if _known_limits[key] <= allowed:
        return verdict
    return await session.run(program, level, limits, _known_limits[key])


def _limit_key(program: Program, level: Level, limits: Limits) -> str:
    parts = (level.name, repr(limits), program.reference or "", program.setup, program.tests)
    return text_sha256("\0".join(parts))


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Also from within a running event loop, as notebooks have one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
