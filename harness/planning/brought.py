"""Experts that were trained elsewhere: where they come from, and which base model they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.planning.plan import ExpertPlan, Plan


def brought(pool: Sequence[ExpertPlan]) -> list[dict[str, Any]]:
    """Of each expert of a pool that was not trained here: `name`, `place` (path, hub id, or `reference/NAME`),
    `revision` (the hub's commit, or a digest of the adapter) and `base` (the base model that its configuration names;
    None if none)."""
    from harness.planning.pools import reference_place
    from harness.training.experts import outside_folder
    from methods.adapters import read_config

    found = []
    for expert in pool:
        if expert.path is None:
            continue
        folder = outside_folder(expert.name, expert.path)
        commit = folder.name if folder.parent.name == "snapshots" else None
        base = read_config(folder).base_model or None
        known = reference_place(folder) or expert.path
        found.append({"name": expert.name, "place": known, "revision": commit or expert.key, "base": base})
    return found


def of_another_base(plan: Plan) -> list[str]:
    """A sentence on each brought expert whose configuration names another base model than the run's."""
    config = plan.config
    pool = plan.pool(0, [name for name in config.experts.names if name in config.experts.paths])
    return [
        f"The expert {one['name']} was made for {one['base']}, and is used on {config.model.name}."
        for one in brought(pool)
        if one["base"] and not same_model(one["base"], config.model.name)
    ]


def same_model(one: str, other: str) -> bool:
    """Whether two names are of one model as far as names tell: a hub id and a folder of the same last part are."""
    return _last(one) == _last(other)


def _last(name: str) -> str:
    return Path(name.rstrip("/")).name.casefold()
