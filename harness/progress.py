"""One progress display for a whole run: a bar on a terminal, one line of HTML in a notebook, plain lines elsewhere."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

PLAIN_INTERVAL = 20.0
"""Seconds between plain lines of one job."""


NOTEBOOK_INTERVAL = 0.5
"""Seconds between updates of a notebook's line."""


class NotebookLine:
    """One updating line of HTML below a notebook's cell, by `IPython.display` alone.

    Args:
        display: the module `IPython.display`.
    """

    def __init__(self, display: Any) -> None:
        self._html = display.HTML
        self._handle = display.display(self._html(""), display_id=True)
        self._ended: list[str] = []
        self._last = float("-inf")

    def show(self, label: str, share: float, left: str, force: bool = False) -> None:
        """Redraw if it is time: what is running, the share of the whole run that is done (0 to 1), and time left."""
        now = time.monotonic()
        if force or now - self._last >= NOTEBOOK_INTERVAL:
            self._last = now
            bar = f'<progress value="{min(share, 1):.3f}" max="1" style="vertical-align: middle"></progress>'
            self._draw(f"{bar} {share:.0%} &middot; {html.escape(label)} &middot; {html.escape(left)}")

    def keep(self, text: str) -> None:
        """A line that stays: a job that failed or was interrupted."""
        self._ended.append(html.escape(text))

    def end(self, text: str) -> None:
        """The last state of the line."""
        self._draw(html.escape(text))

    def _draw(self, line: str) -> None:
        self._handle.update(self._html("<br>".join([*self._ended, line])))


def notebook() -> Any:
    """The module `IPython.display` inside a notebook's kernel, None elsewhere. Imports nothing that is not there."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return None
    from importlib import import_module

    return import_module("IPython.display")


class Progress:
    """Counts work in estimated seconds, so that jobs of different kinds share one bar.

    Args:
        total: estimated seconds of all jobs together.
        stream: where to write; by default below the cell in a notebook, else on standard error, so that tables on
            standard output stay clean.
    """

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self.total = max(total, 1e-6)
        self.done = 0.0
        self.stream = stream if stream is not None else sys.stderr
        self._display = notebook() if stream is None else None
        self.started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._line: NotebookLine | None = None

    @contextmanager
    def shown(self) -> Iterator[Progress]:
        """Display while the block runs."""
        if self._display is not None:
            self._line = NotebookLine(self._display)
            how = "interrupted"
            try:
                yield self
                how = "finished"
            finally:
                self._line.end(f"{how} after {duration(time.monotonic() - self.started)}")
                self._line = None
            return
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
        if progress._line is not None:
            progress._line.show(self.label, (progress.done + extra) / progress.total, progress.left(extra), force)
            return
        now = time.monotonic()
        if force or now - self._last >= PLAIN_INTERVAL:
            self._last = now
            print(f"{self.label}: {fraction:.0%} (run: {progress.left(extra)})", file=progress.stream, flush=True)

    def say(self, text: str) -> None:
        """A line of its own: something that whoever watches should know once."""
        progress = self.progress
        if progress._line is not None:
            progress._line.keep(f"{self.label}: {text}")
        elif progress._bar is not None:
            progress._bar.console.print(f"{self.label}: {text}", markup=False, highlight=False)
        else:
            print(f"{self.label}: {text}", file=progress.stream, flush=True)

    def close(self, how: str) -> None:
        """Finish the job's line: done, failed or interrupted."""
        text = f"{self.label}: {how} {'in' if how == 'done' else 'after'} {duration(time.monotonic() - self.started)}"
        if self.progress._line is not None:
            if how != "done":
                self.progress._line.keep(text)
        elif self.progress._bar is None:
            print(text, file=self.progress.stream, flush=True)


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
