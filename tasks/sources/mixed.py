"""Several sources in one run: with `--data bundled,quiz=DIR` the set quiz comes from DIR, every other is bundled."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.sources.base import DatasetRef, Kind, Row, Source


class MixedSource:
    """A source for each named set, and one for all others."""

    kind: Kind = "mixed"

    def __init__(self, rest: Source, sets: Mapping[str, Source]) -> None:
        """Join sources.

        Args:
            rest: of every set that is not named.
            sets: by the name of the set, which is the folder of a data set in a data directory.
        """
        self.rest = rest
        self.sets = dict(sets)

    def of(self, dataset: DatasetRef) -> Source:
        """The source of one data set."""
        return self.sets.get(dataset.set, self.rest)

    def describe(self) -> str:
        """All of them."""
        own = (f"{name} from {source.describe()}" for name, source in self.sets.items())
        return "; ".join([self.rest.describe(), *own])

    def has(self, dataset: DatasetRef, split: str) -> bool:
        """Whether the set's source holds that split."""
        return self.of(dataset).has(dataset, split)

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        """Rows of the set's source."""
        return self.of(dataset).rows(dataset, split)

    def origin(self, dataset: DatasetRef) -> str:
        """Where the set's rows came from."""
        return self.of(dataset).origin(dataset)


def source_of(source: Source, dataset: DatasetRef) -> Source:
    """The one source that a data set is read from."""
    return source.of(dataset) if isinstance(source, MixedSource) else source
