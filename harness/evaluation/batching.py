"""Batches by token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(items: Iterable[T], length: Callable[[T], int], most: int, *, padded: bool = True) -> Iterator[list[T]]:
    """Items by falling length, in batches of at most `most` tokens (with padding, if `padded`), or of one item.

    The longest come first, so that running out of memory shows at once.
    """
    batch: list[T] = []
    tokens = 0
    for item in sorted(items, key=length, reverse=True):
        own = length(batch[0] if padded and batch else item)
        if batch and tokens + own > most:
            yield batch
            batch, tokens, own = [], 0, length(item)
        batch.append(item)
        tokens += own
    if batch:
        yield batch
