"""PEFT LoRA directories as files: what their configuration says, whether it can be composed, and their content hash.

Nothing here needs torch, so that a comparison can be planned from adapters' hashes alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.adapter_fields import check_fields
from methods.patterns import AdapterError, Matcher, Targets
from results.ground.digest import file_sha256, text_sha256
from results.ground.names import shown
from results.ground.reading import Unreadable, file_text, finite, json_value, regular

CONFIG_FILE = "adapter_config.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")

_LARGEST = 2**53


@dataclass(frozen=True)
class AdapterConfig:
    """What of `adapter_config.json` decides the adapter's function.

    `rank_pattern` and `alpha_pattern` map regular expressions over module paths to values that replace `r` and
    `lora_alpha` there.
    """

    r: int
    lora_alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    use_rslora: bool
    targets: Targets
    ties_embeddings: bool
    matcher: Matcher
    base_model: str | None = None

    def rank(self, site: str) -> int:
        """Rank at a module path."""
        return int(self.rank_pattern.get(self.matcher.key("rank_pattern", self.rank_pattern, site), self.r))

    def scale(self, site: str) -> float:
        """Factor of `B @ A` at a module path: alpha/r, or alpha/sqrt(r) for rsLoRA (arXiv 2312.03732)."""
        alpha = self.alpha_pattern.get(self.matcher.key("alpha_pattern", self.alpha_pattern, site), self.lora_alpha)
        rank = self.rank(site)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def names(self, site: str) -> bool:
        """Whether PEFT puts factors at a module path that is a linear layer."""
        return self.targets.name(site, self.matcher)


def read_config(folder: Path) -> AdapterConfig:
    """Configuration of a PEFT LoRA directory.

    Raises:
        AdapterError: no or broken configuration, not LoRA, or a feature beyond plain LoRA.
    """
    raw = _read_json(folder)
    owner = f"The adapter at {folder}"
    check_fields(owner, raw)
    matcher = Matcher(owner)
    return AdapterConfig(
        r=int(_number(folder, "r", raw.get("r"), whole=True)),
        lora_alpha=float(_number(folder, "lora_alpha", raw.get("lora_alpha"))),
        rank_pattern=_pattern(folder, "rank_pattern", raw, matcher, whole=True),
        alpha_pattern=_pattern(folder, "alpha_pattern", raw, matcher),
        use_rslora=bool(raw.get("use_rslora", False)),
        targets=_targets(folder, raw, matcher),
        ties_embeddings=bool(raw.get("ensure_weight_tying", False)),
        matcher=matcher,
        base_model=str(raw["base_model_name_or_path"]) if raw.get("base_model_name_or_path") is not None else None,
    )


def weight_file(folder: Path) -> Path:
    """The file with the adapter's tensors.

    Raises:
        AdapterError: there is none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).exists():
            return _regular(folder / name)
    raise AdapterError(f"The adapter at {folder} has no {' or '.join(WEIGHT_FILES)}: give a complete PEFT directory.")


def _regular(path: Path) -> Path:
    try:
        return regular(path)
    except Unreadable as error:
        raise AdapterError(f"The file {path} {error}: save the adapter again.") from error


def adapter_digest(folder: Path, length: int = 16) -> str:
    """Hash of what determines the adapter's function: its weights' file, ranks and scales; not its place or name.

    Raises:
        AdapterError: see `read_config` and `weight_file`.
    """
    config = read_config(folder)
    weights = file_sha256(weight_file(folder))
    settings = [
        config.r,
        config.lora_alpha,
        sorted(config.rank_pattern.items()),
        sorted(config.alpha_pattern.items()),
        config.use_rslora,
    ]
    return text_sha256(json.dumps([settings, weights]))[:length]


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        raw = json_value(file_text(path))
    except FileNotFoundError as error:
        raise AdapterError(f"There is no {CONFIG_FILE} in {folder}: give a PEFT adapter directory.") from error
    except Unreadable as error:
        raise AdapterError(f"The file {path} {error}: save the adapter again.") from error
    if not isinstance(raw, dict):
        raise AdapterError(f"The file {path} does not hold an adapter's configuration: save the adapter again.")
    return raw


def _number(folder: Path, key: str, value: Any, *, whole: bool = False) -> float:
    """A value that must be a finite number (a whole one above 0 for ranks), said to be wrong by its key."""
    usable = finite(value) and abs(value) < _LARGEST
    if not usable or (whole and (value != int(value) or value < 1)):
        found = f"no {key}" if value is None else f"{key}={shown(value)}"
        kind = "a whole number above 0" if whole else "a number"
        raise AdapterError(f"The adapter at {folder} has {found} in {CONFIG_FILE}, which must be {kind}: set it there.")
    return float(value)


def _pattern(
    folder: Path, key: str, raw: Mapping[str, Any], matcher: Matcher, *, whole: bool = False
) -> dict[str, Any]:
    """Values by regular expression over module paths, as they stand in the file."""
    patterns = raw.get(key) or {}
    if not isinstance(patterns, dict):
        raise AdapterError(f"The {key} of the adapter at {folder} must map module names to numbers: correct it there.")
    for pattern, value in patterns.items():
        _number(folder, f"{key} at '{pattern}'", value, whole=whole)
        matcher.check_ending(key, pattern)
    return patterns


def _targets(folder: Path, raw: Mapping[str, Any], matcher: Matcher) -> Targets:
    """What `target_modules`, `exclude_modules`, `layers_to_transform` and `layers_pattern` name."""
    modules = _names(folder, "target_modules", raw)
    if not modules:
        raise AdapterError(
            f"The adapter at {folder} names no target_modules in {CONFIG_FILE}: write there which layers it is for."
        )
    containers = _names(folder, "layers_pattern", raw)
    containers = (containers,) if isinstance(containers, str) else containers
    layers = raw.get("layers_to_transform")
    if layers is not None:
        listed = layers if isinstance(layers, list) else [layers]
        if not all(isinstance(index, int) and not isinstance(index, bool) for index in listed):
            raise AdapterError(
                f"The adapter at {folder} has layers_to_transform={layers!r}, which must be layer numbers: correct it."
            )
        layers = tuple(listed)
    if isinstance(modules, str) and (layers is not None or containers):
        raise AdapterError(
            f"The adapter at {folder} chooses layers by number and target_modules by one expression, which PEFT "
            "refuses: write target_modules as a list."
        )
    if containers and layers is None:
        raise AdapterError(
            f"The adapter at {folder} has layers_pattern without layers_to_transform, which PEFT refuses: remove it."
        )
    targets = Targets(modules, _names(folder, "exclude_modules", raw), layers, containers)
    targets.check(matcher)
    return targets


def _names(folder: Path, key: str, raw: Mapping[str, Any]) -> str | tuple[str, ...]:
    """A regular expression, or names; none for null."""
    value = raw.get(key)
    if value is None:
        return ()
    if isinstance(value, str):
        return value or ()
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise AdapterError(f"The {key} of the adapter at {folder} must be names of modules: correct it there.")
    return tuple(value)
