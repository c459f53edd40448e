"""The units of a run in the order in which workers take them: ready ones, those that suit a worker first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from harness.planning.graph import SCORE, Unit, chains, links

ANY = ""
"""What every unit has in common."""

Name = tuple[str, str]


class Ready:
    """Units, each of which may be taken once everything that it needs is done.

    What needs a unit that failed fails with it, for the same reason, and is not taken; a score alone is: it becomes the
    record of the failure. Of the units that suit a worker equally it takes scores first, so that records come early,
    and then the one with the longest chain behind it.

    Args:
        units: of a run (`graph.units`).
        kinship: for a unit, what a worker may hold already that makes it cheaper, the dearest first (a composed model,
            a base model).

    Attributes:
        why: reasons of units that failed, by name.
        open: number of units that are neither done nor failed.

    Raises (on construction):
        HarnessError: units that need one another in a circle.
    """

    def __init__(self, units: Sequence[Unit], kinship: Callable[[Unit], Sequence[str]] = lambda _: ()) -> None:
        self.units = list(units)
        self.why: dict[Name, str] = {}
        self.open = len(self.units)
        self._kinship = kinship
        self._places = {unit.name: at for at, unit in enumerate(self.units)}
        before, self._after = links(self.units)
        self._lengths = chains(self.units, before, self._after)
        self._waits = [len(needed) for needed in before]
        self._there: set[int] = set()
        self._heaps: dict[str, list[tuple[bool, float, int]]] = {}
        for at, count in enumerate(self._waits):
            if not count:
                self._offer(at)

    def __len__(self) -> int:
        """Units that may be taken now."""
        return len(self._there)

    def take(self, held: Sequence[str] = ()) -> Unit | None:
        """A ready unit for a worker, which is then its own; None where there is none.

        Args:
            held: what the worker holds, the dearest first: units akin to it come first.
        """
        for token in (*held, ANY):
            heap = self._heaps.get(token, [])
            while heap:
                at = heappop(heap)[-1]
                if at in self._there:
                    self._there.remove(at)
                    return self.units[at]
        return None

    def again(self, unit: Unit) -> None:
        """A unit that was taken is to be taken once more: its worker was lost, or another process is at it."""
        self._offer(self._places[unit.name])

    def done(self, unit: Unit) -> None:
        """A unit was computed."""
        self.open -= 1
        for behind in self._after[self._places[unit.name]]:
            self._waits[behind] -= 1
            if not self._waits[behind] and self.units[behind].name not in self.why:
                self._offer(behind)

    def failed(self, unit: Unit, why: str) -> None:
        """A unit could not be computed: nor can what needs it."""
        lost = [unit]
        for one in lost:  # grows while it is gone through
            self.why[one.name] = why
            self.open -= 1
            for behind in self._after[self._places[one.name]]:
                other = self.units[behind]
                if other.name in self.why:
                    continue
                self.why[other.name] = why
                if other.kind == SCORE:
                    self._offer(behind)
                else:
                    lost.append(other)

    def _offer(self, at: int) -> None:
        unit = self.units[at]
        self._there.add(at)
        for token in (*self._kinship(unit), ANY):
            heappush(self._heaps.setdefault(token, []), (unit.kind != SCORE, -self._lengths[at], at))
