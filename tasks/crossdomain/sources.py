"""Made sets beside any other source, so that experts may train on hub or bundled rows and be tested on a made set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.sources import DirectorySource, Source
from tasks.sources.base import DatasetRef, Kind, Row

if TYPE_CHECKING:
    from tasks.kept import KeptRows

SET = "crossdomain"
"""Folder of made sets in a data directory: `DIR/crossdomain/<kind>/test.jsonl`."""


class WithMadeSets:
    """A source that also has the cross-domain sets in a folder; everything else is the source's own."""

    def __init__(self, source: Source, folder: Path) -> None:
        """Join a source with the folder that was given to `make_crossdomain`."""
        self.source = source
        self.kind: Kind = source.kind
        self.keeper: KeptRows | None = getattr(source, "keeper", None)
        self._made = DirectorySource(folder) if folder.is_dir() else None

    def describe(self) -> str:
        """The source's own description."""
        return self.source.describe()

    def kept(self, dataset: DatasetRef) -> dict[Any, Any] | None:
        """Where a task keeps rows of the source; sets may be made anew, so theirs are not kept."""
        kept = getattr(self.source, "kept", None)
        return kept(dataset) if kept is not None and dataset.set != SET else None

    def content(self, dataset: DatasetRef, split: str) -> str | None:
        """A name for the bytes of a split; None where there is none."""
        named = getattr(self._of(dataset, split), "content", None)
        return None if named is None else named(dataset, split)

    def has(self, dataset: DatasetRef, split: str) -> bool:
        """Whether the source has that split, or it is a made set."""
        return self._of(dataset, split).has(dataset, split)

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        """Rows of the source or of a made set."""
        return self._of(dataset, split).rows(dataset, split)

    def origin(self, dataset: DatasetRef) -> str:
        """Where the rows came from."""
        return self._of(dataset, "test").origin(dataset)

    def _of(self, dataset: DatasetRef, split: str) -> Source:
        if dataset.set == SET and self._made is not None and not self.source.has(dataset, split):
            return self._made
        return self.source
