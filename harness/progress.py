"""One progress display for a whole run: a bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

PLAIN_INTERVAL = 20.0
"""Seconds between plain lines of one job."""


class Progress:
    """Counts work in estimated seconds, so that jobs of different kinds share one bar.

    Args:
        total: estimated seconds of all jobs together.
        stream: where to write; standard error by default, so that tables on standard output stay clean.
    """

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self.total = max(total, 1e-6)
        self.done = 0.0
        self.stream = stream if stream is not None else sys.stderr
        self.started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    @contextmanager
    def shown(self) -> Iterator[Progress]:
        """Display while the block runs."""
        if not self.stream.isatty():
            yield self
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Bar(*columns, console=Console(file=self.stream), transient=True) as bar:
            self._bar = bar
            self._task = bar.add_task("starting", total=self.total, left="")
            yield self
        self._bar = None

    @contextmanager
    def job(self, label: str, weight: float) -> Iterator[Job]:
        """One job of `weight` estimated seconds; call the yielded object with (done, of) as it goes."""
        job = Job(self, label, weight)
        job.show(0.0, force=True)
        try:
            yield job
        except BaseException as error:
            job.close("failed" if isinstance(error, Exception) else "interrupted")
            raise
        finally:
            self.done += weight
        job.close("done")

    def left(self, extra: float = 0.0) -> str:
        """Time left in words, from the pace so far; empty before there is one."""
        fraction = (self.done + extra) / self.total
        elapsed = time.monotonic() - self.started
        if fraction <= 0.02 or elapsed < 3:
            return f"about {duration(self.total)} in all"
        return f"{duration(elapsed * (1 - min(fraction, 1)) / fraction)} left"


class Job:
    """One running job of a `Progress`."""

    def __init__(self, progress: Progress, label: str, weight: float) -> None:
        self.progress = progress
        self.label = label
        self.weight = weight
        self.started = self._last = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        """Report `done` of `of` units."""
        self.show(done / of if of else 1.0)

    def show(self, fraction: float, force: bool = False) -> None:
        """Redraw, or print a line when one is due."""
        progress = self.progress
        extra = fraction * self.weight
        if progress._bar is not None:
            progress._bar.update(
                progress._task, description=self.label, completed=progress.done + extra, left=progress.left(extra)
            )
            return
        now = time.monotonic()
        if force or now - self._last >= PLAIN_INTERVAL:
            self._last = now
            print(f"{self.label}: {fraction:.0%} ({progress.left(extra)})", file=progress.stream, flush=True)

    def close(self, how: str) -> None:
        """Finish the job's line: done, failed or interrupted."""
        if self.progress._bar is None:
            took = duration(time.monotonic() - self.started)
            print(
                f"{self.label}: {how} {'in' if how == 'done' else 'after'} {took}",
                file=self.progress.stream,
                flush=True,
            )


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
