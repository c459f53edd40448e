"""Rows from a folder of the user: one layout of ours, and the layouts in which hub data sets are downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from results.ground.digest import digest
from tasks.sources.base import DatasetRef, Kind, Row, SourceError
from tasks.sources.files import content, read_rows

if TYPE_CHECKING:
    from tasks.kept import KeptRows

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


class DirectorySource:
    """Rows of `DIR/<set>/<config>/<split>.{jsonl,jsonl.gz,parquet}`.

    Snapshots of hub data sets are found too: a clone or download in `DIR/<set>`, `DIR/<name>` or `DIR/<owner>/<name>`,
    a hub cache folder `DIR/datasets--<owner>--<name>`, or a snapshot given as DIR itself. In them the files of a split
    are `<config>/<split>-*.parquet`, or `data/<split>-*.parquet` for a data set with one configuration.
    """

    kind: Kind = "dir"

    def __init__(self, root: Path, keeper: KeptRows | None = None) -> None:
        """Point at a folder.

        Args:
            root: the folder.
            keeper: keeps divided rows between processes, if given.

        Raises:
            SourceError: it does not exist or is no folder.
        """
        self.root = Path(root).expanduser()
        self.keeper = keeper
        if not self.root.is_dir():
            problem = "is no folder" if self.root.exists() else "does not exist"
            raise SourceError(f"The data directory {self.root} {problem}: give --data an existing folder.")

    def describe(self) -> str:
        """The folder."""
        return f"directory {self.root}"

    def has(self, dataset: DatasetRef, split: str) -> bool:
        """Whether files of that split exist."""
        return bool(self._files(dataset, split))

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        """Rows of all files of the split.

        Raises:
            SourceError: no such file, or one that cannot be read.
        """
        files = self._files(dataset, split)
        if not files:
            wanted = self.root / dataset.set / dataset.config / f"{split}.jsonl"
            raise SourceError(f"The split {split} of {dataset.set} is not in {self.root}: put it at {wanted}.")
        return [row for file in files for row in read_rows(file)]

    def content(self, dataset: DatasetRef, split: str) -> str | None:
        """A name for the bytes of a split's files; None where one cannot be read."""
        files = self._files(dataset, split)
        named = content(files)
        return named and digest([named, [file.suffix for file in files]])

    def origin(self, dataset: DatasetRef) -> str:
        """Set and configuration, or the snapshot's folder."""
        for folder in self._folders(dataset):
            if _split_files(folder, "*"):
                return str(folder.relative_to(self.root)) if folder != self.root else self.root.name
        return f"{dataset.set}/{dataset.config}"

    def _files(self, dataset: DatasetRef, split: str) -> list[Path]:
        return next((files for folder in self._folders(dataset) if (files := _split_files(folder, split))), [])

    def _folders(self, dataset: DatasetRef) -> Iterator[Path]:
        yield self.root / dataset.set / dataset.config
        hub_config = dataset.hub_config or dataset.config
        for snapshot in self._snapshots(dataset):
            yield snapshot / hub_config
            if dataset.hub_config is None:
                yield snapshot / "data"
                yield snapshot

    def _snapshots(self, dataset: DatasetRef) -> Iterator[Path]:
        if dataset.hub_id is None:
            return
        owner, _, name = dataset.hub_id.rpartition("/")
        cached = f"datasets--{owner}--{name}"
        yield self.root / dataset.set
        yield self.root / name
        yield self.root / owner / name
        yield from _cached_snapshots(self.root / cached)
        # DIR itself only counts under the data set's own name: `data/train-*.parquet` could be anybody's.
        if self.root.name == name or cached in self.root.resolve().parts:
            yield self.root
            yield from _cached_snapshots(self.root)


def _split_files(folder: Path, split: str) -> list[Path]:
    """One whole file, or the shards of one."""
    whole = [file for suffix in _SUFFIXES for file in folder.glob(f"{split}{suffix}")]
    return whole[:1] or sorted(folder.glob(f"{split}-*.parquet"))


def _cached_snapshots(folder: Path) -> Iterator[Path]:
    main = folder / "refs" / "main"
    if main.is_file():
        yield folder / "snapshots" / main.read_text().strip()
    yield from sorted((folder / "snapshots").glob("*"))
