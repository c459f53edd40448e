"""Configurations of a run: alone, in an ablation with a label each, or taken from a run that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.planning.config import applied, parse_set, validate, with_setting
from harness.planning.options import RunOptions, method_settings, overrides
from harness.planning.pools import with_pools
from harness.planning.sections import RunConfig
from results.ground.digest import canonical, digest
from results.ground.errors import HarnessError
from results.ground.files import StoreError
from results.ground.places import place
from results.planned import plain
from results.schema import PlannedVariant
from results.store import RunFolder


@dataclass(frozen=True)
class Variant:
    """One configuration of a run, and the label that its cells carry (empty for a plain run)."""

    config: RunConfig
    label: str = ""


def of_run(path: Path, options: RunOptions) -> list[Variant]:
    """What a run would be with some options said anew: each of its variants, everything else as it stands.

    Configurations of one label are taken together where they set methods alike. New methods get the settings of the
    latest, those for every method as far as they have the key.

    Raises:
        StoreError: the folder is no run, or keeps no configuration.
        HarnessError: a mistake in an option.
    """
    info = RunFolder.open(path).info
    if not info.variants:
        raise StoreError(f"{path} keeps no configuration: give settings and --output instead of --into.")
    present = dict.fromkeys(cell.method for cell in info.cells)
    found = []
    for label in dict.fromkeys(variant.label for variant in info.variants):
        own = [variant for variant in info.variants if variant.label == label]
        groups = [own] if "methods" in options else _set_alike(own)
        for group in groups:
            if "methods" in options:
                said = _addressed(own[-1].config.get("method_overrides", {}), options["methods"])
                group = [_with_overrides(variant, said) for variant in group]
            below = plain(info.model_copy(update={"variants": group}), path)
            found.append(Variant(applied(below, overrides(options), method_settings(options), present), label))
    return found


def here(path: Path, options: RunOptions) -> list[Variant]:
    """A run's configurations, with folders of this machine for those in which its rows and experts lay.

    Cells stay what they are, since what a folder holds is in their names and where it lies is not.

    Args:
        path: the run's folder.
        options: some of `PLACES`, as `harness run` takes them.

    Raises:
        StoreError: the folder is no run, or keeps no configuration.
        HarnessError: a mistake in an option, or experts of which none came from a folder.
    """
    info = RunFolder.open(path).info
    if not info.variants:
        raise StoreError(f"{path} keeps no configuration: it can be reported, but not computed or changed.")
    said = overrides(options)
    brought = [_brought(said.get("experts", {}), variant.config) for variant in info.variants]
    if "experts" in said and not any(brought):
        raise HarnessError(f"No expert of {path} that came from a folder is among those: name them as it does.")
    found = []
    for variant, own in zip(info.variants, brought, strict=True):
        experts = variant.config["experts"]
        moved = {
            "data": said.get("data", variant.config["data"]),
            "experts": {**experts, "paths": {**experts["paths"], **own}},
        }
        found.append(Variant(validate({**variant.config, **moved}), variant.label))
    return found


def _brought(experts: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """Where those experts of a configuration that came from folders lie by what `--experts` says."""
    said = with_pools({"model": config["model"], "experts": experts})["experts"].get("paths", {})
    known = config["experts"]["paths"]
    return {name: str(place(folder).absolute()) for name, folder in said.items() if name in known}


def _set_alike(variants: Sequence[PlannedVariant]) -> list[list[PlannedVariant]]:
    groups: dict[str, list[PlannedVariant]] = {}
    for variant in variants:
        groups.setdefault(canonical(variant.config.get("method_overrides", {})), []).append(variant)
    return list(groups.values())


def _with_overrides(variant: PlannedVariant, said: Mapping[str, Any]) -> PlannedVariant:
    return variant.model_copy(update={"config": {**variant.config, "method_overrides": dict(said)}})


def _addressed(said: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings for every method, given to those of `methods` that have the key; those for one of them as they are."""
    from methods import registry

    found: dict[str, dict[str, Any]] = {}
    for text in methods:
        name, _ = registry.parse(text)
        keys = {key: value for key, value in said.get("*", {}).items() if key in registry.config_keys(name)}
        if own := {**keys, **said.get(name, {})}:
            found[name] = own
    return found


def changed(config: RunConfig, settings: Sequence[str]) -> RunConfig:
    """A configuration with some `key=value` settings of the run itself.

    Raises:
        HarnessError: an unknown key, or a wrong value.
    """
    values: dict[str, Any] = config.model_dump(mode="json")
    for text in settings:
        key, value = parse_set(text)
        values = with_setting(values, key, value)
    return validate(values)


def default_folder(variants: Sequence[Variant]) -> Path:
    """A folder whose name says what the run is; equal configurations share it and so resume."""
    # Without files, controls or a declared comparison a run keeps the name that it had before there were any.
    unsaid = {
        key
        for key in ("include", "include_functions", "against", "controls")
        if not any(getattr(one.config, key) for one in variants)
    }
    configs = [variant.config.model_dump(mode="json", exclude=unsaid) for variant in variants]
    named = digest(configs[0] if len(configs) == 1 else configs, 8)
    return Path("results/runs") / f"{variants[0].config.preset}-{named}"


def planned_variant(variant: Variant) -> PlannedVariant:
    """A configuration as `run.yaml` keeps it: found again from another working directory."""
    values = variant.config.model_dump(mode="json")
    paths = values["experts"]["paths"]
    values["experts"]["paths"] = {name: _absolute(path) for name, path in paths.items()}
    values["data"] = _absolute(values["data"])
    return PlannedVariant(label=variant.label, config=values)


def _absolute(path: str) -> str:
    folder = place(path)
    return str(folder.resolve()) if folder.is_dir() else path
