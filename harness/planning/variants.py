"""Configurations of a run: alone, in an ablation with a label each, or taken from a run that exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.planning.config import RunConfig, applied, parse_set, validate, with_setting
from harness.planning.options import RunOptions, method_settings, overrides
from results.ground.digest import digest
from results.planned import plain
from results.schema import PlannedVariant, RunInfo
from results.store import RunFolder


@dataclass(frozen=True)
class Variant:
    """One configuration of a run, and the label that its cells carry (empty for a plain run)."""

    config: RunConfig
    label: str = ""


def of_run(path: Path, options: RunOptions) -> list[Variant]:
    """What a run would be with some options said anew: each of its variants, everything else as it stands.

    Raises:
        StoreError: the folder is no run, or keeps no configuration.
        HarnessError: a mistake in an option.
    """
    info = RunFolder.open(path).info
    present = dict.fromkeys(cell.method for cell in info.cells)
    labels = dict.fromkeys(variant.label for variant in info.variants) or {"": None}
    return [
        Variant(
            applied(plain(_with_label(info, label), path), overrides(options), method_settings(options), present), label
        )
        for label in labels
    ]


def _with_label(info: RunInfo, label: str) -> RunInfo:
    return info.model_copy(update={"variants": [one for one in info.variants if one.label == label]})


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
    # Without files or a declared comparison of its own a run keeps the name that it had before there were any.
    unsaid = {
        key
        for key in ("include", "include_functions", "against")
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
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path
