"""Rows from the Hugging Face hub, through `datasets` and its cache."""

from __future__ import annotations

import re

from results.ground.offline import offline
from tasks.sources.base import DatasetRef, Kind, Row, SourceError


class HubSource:
    """Data sets of the hub. With `HF_HUB_OFFLINE=1` only what is in the cache of `datasets` is used."""

    kind: Kind = "hub"

    def __init__(self) -> None:
        self._revisions: dict[DatasetRef, str] = {}

    def describe(self) -> str:
        """The hub, and whether it is switched offline."""
        return "the Hugging Face hub" + (" (offline: cache only)" if offline() else "")

    def has(self, dataset: DatasetRef, split: str) -> bool:
        """Whether the data set has a hub id; the hub itself is not asked."""
        return dataset.hub_id is not None and (dataset.hub_splits is None or split in dataset.hub_splits)

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        """Download (or find in the cache) and read one split.

        Raises:
            SourceError: not there, not reachable, not in the cache while offline.
        """
        import datasets

        name = dataset.hub_id if dataset.hub_config is None else f"{dataset.hub_id} ({dataset.hub_config})"
        if dataset.hub_id is None:
            raise SourceError(f"The data set {dataset.set} is not on the hub: choose another --data.")
        try:
            loaded = datasets.load_dataset(dataset.hub_id, dataset.hub_config, split=split)
        except Exception as error:  # `datasets` raises errors of half a dozen libraries here.
            reason = (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
            mend = "unset HF_HUB_OFFLINE, or use" if offline() else "check the connection, or use"
            raise SourceError(f"The split {split} of {name} did not load ({reason}): {mend} --data DIR.") from error
        self._revisions[dataset] = _revision(loaded.info.download_checksums) or "revision unknown"
        rows: list[Row] = loaded.to_list()
        return rows

    def origin(self, dataset: DatasetRef) -> str:
        """Hub id, configuration, and the commit its files came from (known once rows were read)."""
        where = dataset.hub_id or dataset.set
        config = f"/{dataset.hub_config}" if dataset.hub_config else ""
        revision = self._revisions.get(dataset)
        return f"{where}{config}" + (f"@{revision}" if revision else "")


def _revision(checksums: dict[str, object] | None) -> str | None:
    for url in checksums or {}:
        match = re.search(r"@([0-9a-f]{40})/|/resolve/([0-9a-f]{40})/", url)
        if match:
            return match[1] or match[2]
    return None
