"""The stages behind a run's cells, as far as a store still holds them."""

from __future__ import annotations

from dataclasses import dataclass

from results.schema import RunInfo
from results.stages import Stages


@dataclass(frozen=True)
class Behind:
    """Stages by name (`kind/key`): those that are stored and whole, those that are gone, and faults of the others.

    What is gone is no fault: stages may be pruned once their cells are finished.
    """

    whole: tuple[str, ...]
    gone: tuple[str, ...]
    faults: dict[str, list[str]]

    def problems(self) -> list[str]:
        """A sentence for each fault."""
        return [f"{name}: {fault}; what uses it makes it again." for name, own in self.faults.items() for fault in own]


def behind(info: RunInfo, stages: Stages) -> Behind:
    """Read every stage that a run's cells name."""
    found = {name: stages.faults(*name.split("/", 1)) for cell in info.cells for name in cell.stages}
    return Behind(
        tuple(name for name, own in found.items() if own == []),
        tuple(name for name, own in found.items() if own is None),
        {name: own for name, own in found.items() if own},
    )
