"""Whole pools named where experts are: `reference`, or a folder that `harness pool` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.ground.errors import HarnessError
from results.ground.places import place
from results.pools import POOL, read_pool

REFERENCE = "reference"
"""The pool that the repository holds for a bundled model."""


def reference_folder(model: str) -> Path:
    """Where the pool of a bundled model lies in a clone."""
    return _reference() / model / "pool"


def reference_place(folder: Path) -> str | None:
    """`reference/NAME` of an expert that lies in a reference pool, wherever the clone is; None for any other."""
    inside = folder.resolve()
    if inside.parent.name != "pool" or inside.parent.parent.parent != _reference().resolve():
        return None
    return f"{REFERENCE}/{inside.name}"


def _reference() -> Path:
    import results

    return Path(results.__file__).parent / "reference"


def with_pools(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration's values with every pool that its experts name replaced by its members.

    Raises:
        HarnessError: there is no such pool, or an expert twice.
        StoreError: a pool's `pool.json` cannot be read.
    """
    section = values.get("experts")
    if not isinstance(section, Mapping):
        return values
    names = section.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return values
    paths = section.get("paths") or {}
    if not isinstance(paths, Mapping):
        return values
    given = dict(paths)
    folders = {name: found for name in names if name not in given and (found := _folder(name, values)) is not None}
    if not folders:
        return values
    members: list[str] = []
    for name in names:
        if name not in folders:
            members.append(name)
            continue
        for expert in read_pool(folders[name]).experts:
            members.append(expert.name)
            given[expert.name] = str(folders[name] / expert.name)
    if twice := sorted({name for name in members if members.count(name) > 1}):
        raise HarnessError(f"The pool has {', '.join(twice)} twice: leave one out.")
    return {**values, "experts": {**section, "names": members, "paths": given}}


def _folder(name: str, values: Mapping[str, Any]) -> Path | None:
    if name == REFERENCE:
        model = values.get("model")
        base = model.get("name") if isinstance(model, Mapping) else None
        folder = reference_folder(str(base))
        if not (folder / POOL).is_file():
            raise HarnessError(
                f"There is no reference pool for {base} here: clone the repository, whose results/reference holds "
                "those that there are, or make one with `harness pool`."
            )
        return folder
    if not name.strip():
        return None
    folder = place(name)
    if not (folder / POOL).is_file() or name in _experts():
        return None
    return folder


def _experts() -> set[str]:
    """Names of experts, which a folder of that name does not hide: `./sst2` is the folder."""
    from tasks import registry

    return {registry.card(name).expert for name in registry.names()}
