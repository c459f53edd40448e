"""PEFT LoRA directories as files: what their configuration says, whether it can be composed, and their content hash.

Nothing here needs torch, so that a comparison can be planned from adapters' hashes alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.ground.digest import file_sha256, text_sha256
from results.ground.errors import HarnessError

CONFIG_FILE = "adapter_config.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")

# Features that change the adapted forward beyond `scale * B @ A` on a linear layer, with their names for people.
_REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "a bias on B",
    "modules_to_save": "fully trained modules (modules_to_save)",
    "trainable_token_indices": "trained token embeddings",
    "target_parameters": "LoRA on raw parameters (target_parameters)",
    "layer_replication": "replicated layers",
    "alora_invocation_tokens": "activation by invocation tokens (aLoRA)",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow routing inside PEFT",
}
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


class AdapterError(HarnessError, ValueError):
    """An adapter directory that cannot be used as an expert; the message is one sentence that says why."""


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
    base_model: str | None = None

    def rank(self, site: str) -> int:
        """Rank at a module path."""
        return self.rank_pattern.get(_pattern_key(self.rank_pattern, site), self.r)

    def scale(self, site: str) -> float:
        """Factor of `B @ A` at a module path: alpha/r, or alpha/sqrt(r) for rsLoRA (arXiv 2312.03732)."""
        alpha = self.alpha_pattern.get(_pattern_key(self.alpha_pattern, site), self.lora_alpha)
        return alpha / (math.sqrt(self.rank(site)) if self.use_rslora else self.rank(site))


def read_config(folder: Path) -> AdapterConfig:
    """Configuration of a PEFT LoRA directory.

    Raises:
        AdapterError: no or broken configuration, not LoRA, or a feature beyond plain LoRA.
    """
    raw = _read_json(folder)
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"The adapter at {folder} is of PEFT type {kind}: only LORA adapters can be experts.")
    for key, feature in _REFUSED.items():
        if raw.get(key):
            raise AdapterError(f"The adapter at {folder} uses {feature}, which is not supported: train it without.")
    if raw.get("bias", "none") != "none":
        raise AdapterError(
            f"The adapter at {folder} trains biases (bias={raw['bias']}), which is not supported: train it without."
        )
    init = raw.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_BASE_CHANGING_INITS):
        raise AdapterError(
            f"The adapter at {folder} was initialised by {init}, which changes the base weights: "
            "save it again with path_initial_model_for_weight_conversion."
        )
    return AdapterConfig(
        r=int(_number(folder, "r", raw.get("r"), whole=True)),
        lora_alpha=float(_number(folder, "lora_alpha", raw.get("lora_alpha"))),
        rank_pattern=_pattern(folder, "rank_pattern", raw, whole=True),
        alpha_pattern=_pattern(folder, "alpha_pattern", raw),
        use_rslora=bool(raw.get("use_rslora", False)),
        base_model=raw.get("base_model_name_or_path"),
    )


def weight_file(folder: Path) -> Path:
    """The file with the adapter's tensors.

    Raises:
        AdapterError: there is none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise AdapterError(f"The adapter at {folder} has no {' or '.join(WEIGHT_FILES)}: give a complete PEFT directory.")


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
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AdapterError(f"There is no {CONFIG_FILE} in {folder}: give a PEFT adapter directory.") from error
    except ValueError as error:
        raise AdapterError(f"The file {path} is not valid JSON: save the adapter again.") from error
    if not isinstance(raw, dict):
        raise AdapterError(f"The file {path} does not hold an adapter's configuration: save the adapter again.")
    return raw


def _number(folder: Path, key: str, value: Any, *, whole: bool = False) -> float:
    """A value that must be a finite number (a whole one above 0 for ranks), said to be wrong by its key."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or (whole and (value != int(value) or value < 1)):
        found = f"no {key}" if value is None else f"{key}={value!r}"
        kind = "a whole number above 0" if whole else "a number"
        raise AdapterError(f"The adapter at {folder} has {found} in {CONFIG_FILE}, which must be {kind}: set it there.")
    return float(value)


def _pattern(folder: Path, key: str, raw: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """Values by regular expression over module paths, as they stand in the file."""
    patterns = raw.get(key) or {}
    if not isinstance(patterns, dict):
        raise AdapterError(f"The {key} of the adapter at {folder} must map module names to numbers: correct it there.")
    for pattern, value in patterns.items():
        _number(folder, f"{key} at '{pattern}'", value, whole=whole)
        try:
            re.compile(pattern)
        except re.error as error:
            raise AdapterError(
                f"The {key} of the adapter at {folder} has '{pattern}', no regular expression ({error}): correct it."
            ) from error
    return patterns


def _pattern_key(patterns: Mapping[str, Any], site: str) -> str:
    """The first pattern that matches the end of a module path, as PEFT resolves it, else the path itself."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", site)), site)
