"""Code from outside that may never end (templates), run for so many seconds at most."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Late(BaseException):
    """The time is over. No `Exception`, so that nothing inside takes it for an error of its own."""


@contextmanager
def within(seconds: float, late: Callable[[], Exception]) -> Iterator[None]:
    """Stop the block once it has taken so long, in any thread, and raise what `late` gives.

    Only Python code is stopped (what Jinja makes of a template is such): a call of compiled code ends by itself first.
    """
    thread, lock = threading.get_ident(), threading.Lock()
    over = fired = False

    def fire() -> None:
        nonlocal fired
        with lock:
            if not over:
                fired = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Late))

    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            with lock:
                over = True
            timer.cancel()
            if fired:
                time.sleep(0.001)  # what is on its way arrives here, and not in what follows
    except _Late:
        with contextlib.suppress(_Late):
            time.sleep(0)
        raise late() from None
