"""Making many objects at once, none of which refer to each other in a circle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No search for circles of objects meanwhile: it looks at every object there is, again and again while there are
    more. Half the time of a report over a million items went there, and a sixth of a plan, which imports libraries."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
