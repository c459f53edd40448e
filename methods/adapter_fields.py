"""The fields of `adapter_config.json`: which say nothing about an adapter's function, and which say too much.

Everything that peft 0.21 writes is in one of these tables; what is in none of them is of a later version, and refused
unless it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from methods.patterns import AdapterError

READ = frozenset(
    {
        "peft_type", "base_model_name_or_path", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "bias", "init_lora_weights",
        "ensure_weight_tying",
    }
)  # fmt: skip
"""Fields that decide the function and are read."""

REFUSED: Mapping[str, str] = {
    "use_dora": "DoRA",
    "lora_bias": "a bias on B",
    "modules_to_save": "fully trained modules (modules_to_save)",
    "trainable_token_indices": "trained token embeddings",
    "target_parameters": "LoRA on raw parameters (target_parameters)",
    "layer_replication": "replicated layers",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow routing inside PEFT",
    "velora_config": "VeLoRA's compressed activations",
    "megatron_config": "Megatron's parallel layers",
}
"""Features that change the adapted forward beyond `scale * B @ A` on a linear layer, with their names for people."""

REFUSED_UNLESS_NONE: Mapping[str, str] = {
    "alora_invocation_tokens": "activation by invocation tokens (aLoRA)",
}
"""The same, where any value but null turns the feature on."""

WITHOUT_EFFECT = frozenset(
    {
        # Where it comes from and what it was saved with.
        "task_type", "auto_mapping", "peft_version", "revision", "inference_mode", "runtime_config",
        # Training alone.
        "lora_dropout", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
        # Settings of features that have a switch of their own, and PEFT's of 2023.
        "qalora_group_size", "megatron_core", "merge_weights",
    }
)  # fmt: skip
"""Fields that the saved factors' function does not depend on. Initial values are settled by `init_lora_weights`."""

SWITCHES = frozenset({"use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "ensure_weight_tying"})
"""Fields that are true or false."""

INITIAL = frozenset({"gaussian", "eva", "orthogonal", "mica", "true", "false"})
"""Initialisations that leave the base weights alone. MiCA draws B from the base and freezes it; the file holds it."""
INITIAL_ON_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of the names of those that subtract from them, so that the file's factors belong to another base."""


def check_fields(owner: str, raw: Mapping[str, Any]) -> None:
    """See that a configuration is of plain LoRA, with values of the right kinds.

    Args:
        owner: begins complaints, e.g. `The adapter at a/b`.
        raw: the configuration as it stands in the file.

    Raises:
        AdapterError: another PEFT type, a feature beyond plain LoRA, a field that is not known here, or a value of the
            wrong kind.
    """
    if (kind := raw.get("peft_type")) != "LORA":
        raise AdapterError(f"{owner} is of PEFT type {kind}: only LORA adapters can be experts.")
    for key in sorted(SWITCHES & raw.keys()):
        if not isinstance(raw[key], bool | None):
            raise AdapterError(f"{owner} has {key}={raw[key]!r}, which must be true or false: correct it there.")
    for key, feature in {**REFUSED, **REFUSED_UNLESS_NONE}.items():
        value = raw.get(key)
        if value or (key in REFUSED_UNLESS_NONE and value is not None):
            raise AdapterError(f"{owner} uses {feature}, which is not supported: train it without.")
    if raw.get("bias", "none") != "none":
        raise AdapterError(f"{owner} trains biases (bias={raw['bias']}), which is not supported: train it without.")
    _check_initial(owner, raw.get("init_lora_weights", True))
    known = READ | WITHOUT_EFFECT | REFUSED.keys() | REFUSED_UNLESS_NONE.keys()
    for key in sorted(raw.keys() - known):
        if raw[key]:
            raise AdapterError(
                f"{owner} sets {key}, which is not known here and may change what it computes: train it without, or "
                "save it with a version of PEFT that is supported."
            )


def _check_initial(owner: str, initial: Any) -> None:
    if not isinstance(initial, str | bool | None):
        raise AdapterError(f"{owner} has init_lora_weights={initial!r}, which must be true, false or a name: set it.")
    if not isinstance(initial, str) or initial.lower() in INITIAL:
        return
    if initial.lower().startswith(INITIAL_ON_BASE):
        raise AdapterError(
            f"{owner} was initialised by {initial}, which changes the base weights: save it again with "
            "path_initial_model_for_weight_conversion."
        )
    raise AdapterError(f"{owner} was initialised by {initial}, which is not known here: correct init_lora_weights.")
