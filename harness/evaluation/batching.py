"""Batches by token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(items: Iterable[T], length: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Items by falling length, in batches of at most `most` tokens with padding, or of one item.

    The longest come first, so that running out of memory shows at once.
    """
    batch: list[T] = []
    for item in sorted(items, key=length, reverse=True):
        if batch and length(batch[0]) * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
