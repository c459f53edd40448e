"""Ctrl-C and SIGTERM as one exception that cleans up, and that nothing swallows."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_told: list[int] = []
"""Signals that this process was told to end by."""


class Ended(BaseException):
    """The process was told to end (Ctrl-C, SIGTERM). No `KeyboardInterrupt`: typer ends that one without a word."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.code = 128 + number


@contextmanager
def endable() -> Iterator[None]:
    """Raise `Ended` inside when the process is told to end."""
    # Whoever started the process with a signal ignored (nohup, a shell's background) meant it.
    _told.clear()
    heeded = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, _end) for one in heeded}
    hook = sys.unraisablehook

    def unraisable(lost: UnraisableHookArgs) -> None:
        # Python drops what is raised while an object is being deleted: the signal is sent again a moment later.
        if not isinstance(lost.exc_value, Ended):
            hook(lost)
            return
        number = lost.exc_value.number
        signal.signal(number, _end)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _told.clear()
        for one, handler in before.items():
            signal.signal(one, handler)


def insist() -> None:
    """Raise what was raised before: code in C may turn an exception that it did not expect into one of its own.

    Raises:
        Ended: the process was told to end.
    """
    if _told:
        raise Ended(_told[-1])


def _end(number: int, _frame: object) -> None:
    _told.append(number)
    # Once is enough: a second signal would cut off the cleaning up.
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise Ended(number)
