"""Configurations of base models, so that parameters can be counted without a download.

One YAML file each, with the values of the public `config.json` that decide shapes. Reading them imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml


@dataclass(frozen=True)
class Architecture:
    """A base model without its weights.

    Attributes:
        name: on the command line.
        label: for people.
        repository: hub id of the weights.
        parameters: of the base model; tied ones once.
        targets: last parts of the module paths where its LoRAs go.
        config: keyword arguments of its `transformers` configuration, and `model_type`.
    """

    name: str
    label: str
    repository: str
    parameters: int
    targets: tuple[str, ...]
    config: Mapping[str, Any]


_TARGETS = {
    "mamba": ("in_proj", "x_proj", "dt_proj", "out_proj"),
    "falcon_mamba": ("in_proj", "x_proj", "dt_proj", "out_proj"),
    "t5": ("q", "v"),
}


def usual_targets(model_type: str) -> tuple[str, ...]:
    """Last parts of the module paths where LoRAs of a model's type usually go (LoRA-Mixer, sections 4.1 and A.11)."""
    return _TARGETS.get(model_type, ("q_proj", "k_proj", "v_proj", "o_proj"))


@cache
def architectures() -> dict[str, Architecture]:
    """All shipped architectures by name."""
    found = {}
    for file in resources.files(__name__).iterdir():
        name, dot, ending = file.name.rpartition(".")
        if dot and ending == "yaml":
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
            found[name] = Architecture(name=name, targets=tuple(raw.pop("targets")), **raw)
    return dict(sorted(found.items()))
