"""A time limit that a busy machine does not turn into a verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

PATIENCE = 3.0
"""Wall time may reach this many times the limit while less processor time than the limit is used."""


async def within(work: Coroutine[Any, Any, T], seconds: float, processes: Iterable[int]) -> T:
    """The result of `work`.

    Raises:
        TimeoutError: the trees of `processes` have used `seconds` of processor time without a result, or `PATIENCE`
            times as much wall time has passed (a program that waits).
    """
    task = asyncio.ensure_future(work)
    begin = time.monotonic()
    pids = list(processes)
    pause = seconds
    try:
        while not (await asyncio.wait({task}, timeout=pause))[0]:
            left = PATIENCE * seconds - (time.monotonic() - begin)
            missing = seconds - sum(map(processor_seconds, pids))
            if min(left, missing) <= 0:
                raise TimeoutError
            pause = min(left, max(missing, 0.1))
        return task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its descendants that live; 0 when it is gone."""
    total = 0.0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
    return total
