"""Items of a run's cells, read when they are asked for: all of a large run's at once would fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from results.schema import Item

KEPT = 50_000
"""Items that stay in memory after they were read."""


class StoredItems(Mapping[str, Sequence[Item]]):
    """Items by cell.

    Args:
        cells: that have items, in order.
        read: of one cell.
        kept: how many items stay in memory, those that were asked for last; one cell's do in any case.
    """

    def __init__(self, cells: Sequence[str], read: Callable[[str], Sequence[Item]], kept: int = KEPT) -> None:
        self._cells = dict.fromkeys(cells)
        self._read = read
        self._room = kept
        self._kept: dict[str, Sequence[Item]] = {}
        self._number = 0

    def __getitem__(self, cell: str) -> Sequence[Item]:
        if cell not in self._cells:
            raise KeyError(cell)
        if cell in self._kept:
            self._kept[cell] = self._kept.pop(cell)
            return self._kept[cell]
        items = self._read(cell)
        self._kept[cell] = items
        self._number += len(items)
        while self._number > self._room and len(self._kept) > 1:
            self._number -= len(self._kept.pop(next(iter(self._kept))))
        return items

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, cell: object) -> bool:
        return cell in self._cells
