"""What was ever asked of a run: how a new plan joins those before it, and how whole runs are joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.ground.files import StoreError
from results.schema import PlannedCell, RunInfo

CHOICES = ("methods", "tasks", "seeds", "method_overrides", "preset", "summary", "against", "controls")
"""Parts of a configuration that say which cells there are or stand in their names; all others are settings."""


OF_METHODS = ("method_overrides", "tuned_rates")
"""Parts that hold settings by method or row, so that configurations of different ones fit together."""
SOURCES = ("bundled", "hub")
"""Sources of rows that are no folder."""


def extended(old: RunInfo, new: RunInfo) -> RunInfo:
    """The union of two plans of one run: cells in the order of planning, each variant and command once.

    A cell that takes the place of an older one (same variant, model, method, task and seed, another specification)
    supersedes it where settings are equal: versions or data have moved on.

    Raises:
        StoreError: it takes that place under other settings; a table would mix the two.
    """
    places = {cell.place: cell for cell in old.cells}
    taken = [cell for cell in new.cells if cell.place in places and places[cell.place].cell != cell.cell]
    for cell in taken:
        before, after = (_settings(info, cell.variant) for info in (old, new))
        if changed := differing(before, after):
            key, was, now = changed[0]
            raise StoreError(
                f"{old.name} holds {cell.method} on {cell.task} with {key} {was}, and now it is {now}: choose another "
                "--output, or --replace to start anew."
            )
    return RunInfo(
        name=old.name,
        commands=[*old.commands, *(one for one in new.commands if one not in old.commands)],
        variants=[*old.variants, *(one for one in new.variants if one not in old.variants)],
        cells=superseded(old.cells, new.cells),
    )


def superseded(old: Sequence[PlannedCell], new: Iterable[PlannedCell]) -> list[PlannedCell]:
    """`old` with the cells of `new` in their places, and those without one behind."""
    places = {cell.place: cell for cell in old}
    places.update({cell.place: cell for cell in new})
    return list(places.values())


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted settings that two configurations give different values, with both values."""
    old, new = _leaves(before), _leaves(after)
    keys = [*old, *(key for key in new if key not in old)]
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _settings(info: RunInfo, label: str) -> dict[str, Any]:
    """Settings of the latest configuration with a label."""
    found = [variant.config for variant in info.variants if variant.label == label]
    return _without_choices(found[-1]) if found else {}


def _without_choices(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in config.items() if key not in CHOICES}
    if isinstance(model := settings.get("model"), Mapping):
        # Where a cell is computed does not decide what it is.
        settings["model"] = {key: value for key, value in model.items() if key != "device"}
    return settings


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those of single methods, and without the folders that rows and experts lie in: another machine
    that takes up a run has others, and what they hold is in every cell's name."""
    kept = {key: value for key, value in settings.items() if key not in OF_METHODS}
    if isinstance(data := kept.get("data"), str):
        sources = [part.rpartition("=") for part in data.split(",")]
        kept["data"] = ",".join(
            f"{name}{equals}{source if source in SOURCES else 'DIR'}" for name, equals, source in sources
        )
    if isinstance(experts := kept.get("experts"), Mapping) and isinstance(paths := experts.get("paths"), Mapping):
        kept["experts"] = {**experts, "paths": sorted(paths)}
    return kept


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def plain(info: RunInfo, path: Path) -> dict[str, Any]:
    """One configuration that stands for a whole run: its settings with all methods, tasks and seeds it ever had.

    Raises:
        StoreError: the run has variants of different settings, or keeps no configuration.
    """
    if not info.variants:
        raise StoreError(f"{path} keeps no configuration: name a preset.")
    last = info.variants[-1].config
    settings = _without_places(_settings(info, info.variants[-1].label))
    for variant in info.variants:
        if changed := differing(_without_places(_without_choices(variant.config)), settings):
            raise StoreError(
                f"The configurations of {path} differ in {changed[0][0]}: a new run needs one of them; give a preset "
                "or a YAML file of your own."
            )
    merged = dict(last)
    for key in ("methods", "tasks", "seeds"):
        merged[key] = list(dict.fromkeys(one for variant in info.variants for one in variant.config.get(key, ())))
    return merged | {part: _of_methods(info, path, part) for part in OF_METHODS}


def _of_methods(info: RunInfo, path: Path, part: str) -> dict[str, dict[str, Any]]:
    """Settings of methods, where no two configurations contradict each other; those for every method must be equal.

    Raises:
        StoreError: they do not fit into one configuration.
    """
    every = [variant.config.get(part, {}) for variant in info.variants]
    merged: dict[str, dict[str, Any]] = {}
    for one in every:
        for method, keys in one.items():
            merged.setdefault(method, {}).update(keys)
    for one in every:
        fits = all(merged[method] == {**merged[method], **keys} for method, keys in one.items())
        if not fits or one.get("*", {}) != merged.get("*", {}):
            raise StoreError(
                f"The configurations of {path} set methods differently: a new run needs one of them; give a preset or "
                "a YAML file of your own."
            )
    return merged
