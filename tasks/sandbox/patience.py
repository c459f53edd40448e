"""A time limit that a busy machine does not turn into a verdict.

Two clocks run. Processor time, as the kernel accounts it, is what a program that computes is limited by. Undisturbed
time is wall time less the time in which the program was ready to run and waited for a processor (the second number of
`/proc/PID/task/TID/schedstat`); it ends a program that waits. On an idle machine it is wall time.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

PATIENCE = 3.0
"""Undisturbed time may reach this many times the limit while less processor time than the limit is used."""

END = 100.0
"""Wall time may not reach this many times the limit, whatever the machine does."""


class Meter:
    """Time used by the trees of some processes since the meter was made, and by this thread on their behalf."""

    def __init__(self, processes: Iterable[int]) -> None:
        self.roots = tuple(processes)
        self.thread = f"/proc/{os.getpid()}/task/{threading.get_native_id()}"
        self.begin = time.monotonic()
        self._processor: dict[int, float] = {}
        self._waited: dict[str, float] = {}
        self._look()
        self._before = sum(self._processor.values()), sum(self._waited.values())

    def wall(self) -> float:
        return time.monotonic() - self.begin

    def read(self) -> tuple[float, float]:
        """Processor seconds and undisturbed seconds. Processes that are gone keep what they had used when last seen."""
        self._look()
        processor, waited = self._before
        undisturbed = self.wall() - (sum(self._waited.values()) - waited)
        return sum(self._processor.values()) - processor, max(undisturbed, 0.0)

    def used(self) -> float:
        """The time of a program that is to be compared with others: neither clock is moved by a busy machine."""
        return max(self.read())

    def _look(self) -> None:
        for process in (process for root in self.roots for process in tree(root)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._processor[process.pid] = times.user + times.system
            for thread in _threads(process.pid):
                self._waited[thread] = run_delay(thread)
        self._waited[self.thread] = run_delay(self.thread)


async def within(work: Coroutine[Any, Any, T], seconds: float, meter: Meter) -> T:
    """The result of `work`.

    A result that comes too late is none, also where it comes before anybody has looked at the clocks.

    Raises:
        TimeoutError: the processes have used `seconds` of processor time, or `PATIENCE` times as much undisturbed time
            has passed (a program that waits), or `END` times as much wall time.
    """
    task = asyncio.ensure_future(work)
    pause = seconds
    try:
        done = False
        while not done:
            done = bool((await asyncio.wait({task}, timeout=pause))[0])
            processor, undisturbed = meter.read()
            left, missing = PATIENCE * seconds - undisturbed, seconds - processor
            if min(left, missing, END * seconds - meter.wall()) <= 0:
                raise TimeoutError
            pause = max(min(left, missing), 0.1)
        return task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants that live; nothing when it is gone."""
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        try:
            return [root, *(psutil.Process(child) for child in _descendants(pid))]
        except OSError:  # a kernel without lists of children: all processes are looked through
            return [root, *root.children(recursive=True)]
    return []


def _descendants(pid: int) -> Iterator[int]:
    """
    Raises:
        OSError: a thread is gone, or the kernel keeps no lists of children.
    """
    for thread in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its descendants that live; 0 when it is gone."""
    return Meter([pid])._before[0]


def _threads(pid: int) -> list[str]:
    with suppress(OSError):
        return [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
    return []


def run_delay(thread: str) -> float:
    """Seconds that a thread has waited for a processor; 0 where the kernel does not count them."""
    try:
        return int(Path(thread, "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
