"""The stage store: experts, composed models and other intermediate results, named by what determines them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results.ground.files import atomic_folder, is_finished, write_json

META = "meta.json"
EXPERT, COMPOSED, OUTPUTS = "expert", "composed", "outputs"
"""Kinds of stages: trained experts, fitted models, raw outputs of one model on one task."""


class Stages:
    """Finished stages under `root/<kind>/<key>/`, shared by runs and by processes.

    `key` is a hash of everything that determines the stage and of nothing else. A stage is there as a whole or
    not at all; two processes that compute the same one both end well, and the first to finish is kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: str) -> Path:
        """Where the stage is, or would be."""
        for part in (kind, key):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part):
                raise ValueError(f"not a name for a stage: {part!r}")
        return self.root / kind / key

    def find(self, kind: str, key: str) -> Path | None:
        """Folder of a finished stage; None when it is missing or was cut off."""
        folder = self.path(kind, key)
        return folder if is_finished(folder) else None

    @contextmanager
    def create(self, kind: str, key: str, meta: dict[str, Any] | None = None) -> Iterator[Path]:
        """A folder to fill; it becomes `path(kind, key)` when the block ends and vanishes when it raises.

        Args:
            meta: JSON data kept beside the result (what determined it, what it cost); more may be written to
                `meta.json` of the yielded folder inside the block.
        """
        with atomic_folder(self.path(kind, key)) as folder:
            if meta is not None:
                write_json(folder / META, meta)
            yield folder

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The JSON data of a finished stage; empty when it was stored without any.

        Raises:
            KeyError: there is no such finished stage.
        """
        folder = self.find(kind, key)
        if folder is None:
            raise KeyError(f"{kind}/{key}")
        path = folder / META
        return dict(json.loads(path.read_text())) if path.exists() else {}
