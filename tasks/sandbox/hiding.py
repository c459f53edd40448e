"""Keeps other processes of the same user out of this one while candidates run beside it."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4

_lock = threading.Lock()
_state = {"inside": 0, "before": 1}


@contextmanager
def undumpable() -> Iterator[None]:
    """While this holds, no process without more power can trace this one or open its memory or descriptors.

    Counted, so that several evaluations may overlap; what held before holds again after the last.

    Raises:
        OSError: the kernel refuses.
    """
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with _lock:
        if _state["inside"] == 0:
            _state["before"] = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
            if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
        _state["inside"] += 1
    try:
        yield
    finally:
        with _lock:
            _state["inside"] -= 1
            if _state["inside"] == 0:
                libc.prctl(PR_SET_DUMPABLE, int(_state["before"] == 1), 0, 0, 0)
