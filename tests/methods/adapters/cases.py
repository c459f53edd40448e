"""Adapter directories of every kind: what PEFT is told when it makes one, what is changed, what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FOREVER = r"(?:[a-z_.0-9]|[a-z_.0-9])+[#!]"
"""Backtracks for ever on a module path."""
EACH = tuple(f"model.layers.{layer}.self_attn.{leaf}" for layer in (0, 1) for leaf in ("q_proj", "v_proj"))


@dataclass(frozen=True)
class Case:
    """One adapter directory.

    Attributes:
        name: of the test.
        made: arguments of `peft.LoraConfig` beside rank 4, alpha 6 and q_proj, v_proj.
        changed: fields of the saved `adapter_config.json` that are set, or removed (`REMOVED`).
        says: part of the refusal; None where the adapter must compute what PEFT computes.
        save: arguments of PEFT's `save_pretrained`.
        tied: whether the base model's output layer is its embedding.
    """

    name: str
    made: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    says: str | None = None
    save: Mapping[str, Any] = field(default_factory=lambda: {"save_embedding_layers": False})
    tied: bool = False


REMOVED = object()


def _equal() -> list[Case]:
    made: dict[str, dict[str, Any]] = {
        "plain": {},
        **{f"rank {r}": {"r": r} for r in (1, 3, 16, 40)},
        **{f"alpha {a}": {"lora_alpha": a} for a in (0, 1, -4, 0.5, 1000)},
        **{f"rslora of rank {r}": {"r": r, "use_rslora": True} for r in (1, 4, 9)},
        "rslora with patterns": {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
        "rank of a name": {"rank_pattern": {"q_proj": 2}},
        "rank of a path": {"rank_pattern": {"model.layers.1.self_attn.q_proj": 8}},
        "rank of a part of a name": {"rank_pattern": {"proj": 2}},
        "rank of an expression": {"rank_pattern": {r".*\.0\..*": 7}},
        "rank from the beginning": {"rank_pattern": {r"^model\.layers\.0\.self_attn\.q_proj": 5}},
        "rank of alternatives": {"rank_pattern": {"q_proj|v_proj": 3}},
        "ranks of which the first counts": {"rank_pattern": {r".*1\.self_attn\.q_proj": 2, "q_proj": 5}},
        "rank of nothing": {"rank_pattern": {"k_proj": 2}},
        "alpha of a name": {"alpha_pattern": {"q_proj": 32}},
        "alpha of an expression": {"alpha_pattern": {r"layers\.[1-9]\..*": 0.25}},
        "alphas of which the first counts": {"alpha_pattern": {".*v_proj": 1, r"layers\.0\..*": 9}},
        "rank and alpha": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2}},
        "attention": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
        "feed-forward": {"target_modules": ["gate_proj", "up_proj", "down_proj"]},
        "whole paths": {"target_modules": list(EACH)},
        "one path": {"target_modules": ["model.layers.1.mlp.up_proj"]},
        "parents and names": {"target_modules": ["self_attn.q_proj", "mlp.down_proj"]},
        "expression": {"target_modules": r".*\.(q|o)_proj"},
        "expression of one layer": {"target_modules": r"model\.layers\.1\..*_proj"},
        "all-linear": {"target_modules": "all-linear"},
        "a target that is not there": {"target_modules": ["q_proj", "query_key_value"]},
        "excluded name": {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]},
        "excluded path": {"exclude_modules": ["model.layers.0.self_attn.q_proj"]},
        "excluded expression": {"exclude_modules": r".*layers\.1.*"},
        "excluded from all-linear": {"target_modules": "all-linear", "exclude_modules": ["mlp.up_proj"]},
        "one layer": {"layers_to_transform": 1},
        "listed layers": {"layers_to_transform": [0]},
        "all layers by number": {"layers_to_transform": [0, 1]},
        "no layers listed": {"layers_to_transform": []},
        "layers of a container": {"layers_to_transform": [1], "layers_pattern": "layers"},
        "layers of containers": {"layers_to_transform": [0], "layers_pattern": ["h", "layers"]},
        "a path whatever its layer": {"target_modules": [EACH[0], "v_proj"], "layers_to_transform": [1]},
        **{f"initialised by {i}": {"init_lora_weights": i} for i in (True, False, "gaussian", "orthogonal", "mica")},
        "initialised by eva": {"init_lora_weights": "eva"},
        "dropout": {"lora_dropout": 0.5},
        "causal": {"task_type": "CAUSAL_LM"},
        "inference mode": {"inference_mode": True},
        "revision": {"revision": "main"},
        "base model": {"base_model_name_or_path": "somebody/else"},
        "group size of a feature that is off": {"qalora_group_size": 32},
        "megatron core alone": {"megatron_core": "megatron.elsewhere"},
        "ties nothing": {"ensure_weight_tying": True},
        "eva's settings": {"eva_config": {"rho": 1.5}},
        "corda's settings": {"corda_config": {"corda_method": "kpm"}},
        "lora-ga's settings": {"lora_ga_config": {"scale": "unit"}},
        "bias none": {"bias": "none"},
        "output layer": {"target_modules": ["lm_head"]},
        "output layer and others": {"target_modules": ["q_proj", "lm_head"], "rank_pattern": {"lm_head": 7}},
    }
    changed: dict[str, dict[str, Any]] = {
        "initialisation null": {"init_lora_weights": None},
        "initialisation in capitals": {"init_lora_weights": "Gaussian"},
        "fields that are off": {"later": False, "other": None, "more": [], "else": {}},
        "made by another trainer": {"auto_mapping": {"base_model_class": "LlamaForCausalLM", "unsloth_fixed": True}},
        "rslora null": {"use_rslora": None},
        "switches null": {"use_dora": None, "lora_bias": None},
        "an early PEFT": {"merge_weights": False, "enable_lora": None, "peft_version": REMOVED},
        "only what is needed": dict.fromkeys(
            ("rank_pattern", "alpha_pattern", "use_rslora", "bias", "init_lora_weights", "exclude_modules"), REMOVED
        ),
    }
    head = {"target_modules": ["q_proj", "lm_head"]}
    return [
        *(Case(name, settings) for name, settings in made.items()),
        *(Case(name, {}, changes) for name, changes in changed.items()),
        Case("tied output layer", head, tied=True),
        Case("output layer as PEFT saves it", head, save={}),
        Case("tied output layer as PEFT saves it", head, save={}, tied=True),
        Case("embeddings beside", save={"save_embedding_layers": True}),
        Case("tied embeddings beside", save={"save_embedding_layers": True}, tied=True),
    ]


def _beyond() -> list[Case]:
    """Features that are not plain LoRA; PEFT makes those that it can make without data."""
    made: dict[str, tuple[dict[str, Any], str]] = {
        "dora": ({"use_dora": True}, "uses DoRA"),
        "bias on B": ({"lora_bias": True}, "uses a bias on B"),
        "all biases": ({"bias": "all"}, "trains biases"),
        "biases beside lora": ({"bias": "lora_only"}, "trains biases"),
        "saved modules": ({"modules_to_save": ["lm_head"]}, "fully trained modules"),
        "trained tokens": ({"trainable_token_indices": [1, 2]}, "trained token embeddings"),
        "raw parameters": ({"target_parameters": ["self_attn.o_proj.weight"]}, "raw parameters"),
        "replicated layers": ({"layer_replication": [(0, 2), (0, 2)]}, "replicated layers"),
        "pissa": ({"init_lora_weights": "pissa"}, "changes the base weights"),
        "fast pissa": ({"init_lora_weights": "pissa_niter_2"}, "changes the base weights"),
        "olora": ({"init_lora_weights": "olora"}, "changes the base weights"),
        "embeddings": ({"target_modules": ["q_proj", "embed_tokens"]}, "lora_embedding_A"),
        "invocation": ({"alora_invocation_tokens": [5, 6], "task_type": "CAUSAL_LM"}, "aLoRA"),
        "velora": ({"velora_config": {"num_groups": 8}}, "VeLoRA"),
        # PEFT sorts the patterns when it saves them, and cannot load these itself.
        "ranks that PEFT has sorted": ({"rank_pattern": {"v_proj": 2, ".*": 3}}, "its configuration says 3"),
        "kasa": ({"kasa_config": {}}, "uses KaSA"),
        "monteclora": ({"monteclora_config": {"num_samples": 2}}, "uses MonteCLoRA"),
        "block-diagonal": (
            {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["v_proj"], "nblocks": 2}},
            "block-diagonal",
        ),
    }
    changed: dict[str, tuple[dict[str, Any], str]] = {
        "loftq": ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "changes the base weights"),
        "corda": ({"init_lora_weights": "corda"}, "changes the base weights"),
        "lora-ga": ({"init_lora_weights": "lora_ga"}, "changes the base weights"),
        "arrow": ({"arrow_config": {"top_k": 2}}, "Arrow routing"),
        "qalora": ({"use_qalora": True}, "QALoRA"),
        "transposed": ({"fan_in_fan_out": True}, "transposed weights"),
        "megatron": ({"megatron_config": {"tensor_model_parallel_size": 2}}, "Megatron"),
        "no invocation tokens": ({"alora_invocation_tokens": []}, "aLoRA"),
        "unknown initialisation": ({"init_lora_weights": "later"}, "initialised by later, which is not known"),
        "a later field": ({"use_tomorrow": True}, "sets use_tomorrow, which is not known here"),
        "a later setting": ({"tomorrow_config": {"k": 1}}, "sets tomorrow_config"),
        "a later number": ({"beta": 0.5}, "sets beta"),
        "an early PEFT's merged layers": ({"enable_lora": [True, False, True]}, "sets enable_lora"),
    }
    return [
        *(Case(name, settings, {}, says) for name, (settings, says) in made.items()),
        *(Case(name, {}, changes, says) for name, (changes, says) in changed.items()),
        Case("tied adapters", {"target_modules": ["lm_head"], "ensure_weight_tying": True}, says="", tied=True),
    ]


def _wrong() -> list[Case]:
    """Values of the wrong kind, and configurations that contradict their factors."""
    changed: dict[str, tuple[dict[str, Any], str]] = {
        **{f"r {r!r}": ({"r": r}, "r=.*a whole number above 0") for r in ("8", 4.7, 0, -1, True, 1e400, 10**30, [4])},
        "r null": ({"r": None}, "has no r"),
        "r missing": ({"r": REMOVED}, "has no r"),
        "another r": ({"r": 5}, "has rank 4 at .* but its configuration says 5"),
        "alpha missing": ({"lora_alpha": REMOVED}, "has no lora_alpha"),
        **{f"alpha {a!r}": ({"lora_alpha": a}, "lora_alpha=") for a in ("6", float("nan"), float("inf"), True, {})},
        **{f"rslora {v!r}": ({"use_rslora": v}, "must be true or false") for v in ("false", "true", 1, 0, [])},
        "dora as text": ({"use_dora": "false"}, "use_dora='false', which must be true or false"),
        "bias null": ({"bias": None}, "trains biases"),
        "initialisation as a number": ({"init_lora_weights": 1}, "init_lora_weights=1"),
        "patterns as a list": ({"rank_pattern": ["q_proj"]}, "must map module names to numbers"),
        "patterns as text": ({"alpha_pattern": "q_proj"}, "must map module names to numbers"),
        "rank pattern as text": ({"rank_pattern": {"q_proj": "4"}}, "rank_pattern at 'q_proj'"),
        "rank pattern zero": ({"rank_pattern": {"k_proj": 0}}, "rank_pattern at 'k_proj'"),
        "alpha pattern true": ({"alpha_pattern": {"q_proj": True}}, "alpha_pattern at 'q_proj'"),
        "alpha pattern null": ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern at 'q_proj'"),
        "no expression": ({"rank_pattern": {"q_(proj": 4}}, "no regular expression"),
        "flags inside": ({"rank_pattern": {"(?i)q_proj": 4}}, "no regular expression"),
        "fuzzy expression": ({"rank_pattern": {"(q_prj){e}": 4}}, "no regular expression .not supported"),
        "very long expression": ({"alpha_pattern": {"q" * 30_000: 4}}, "no regular expression"),
        "targets no expression": ({"target_modules": "*_proj"}, "no regular expression"),
        "excluded no expression": ({"exclude_modules": "("}, "no regular expression"),
        "rank for ever": ({"rank_pattern": {FOREVER: 4}}, "takes for ever"),
        "alpha for ever": ({"alpha_pattern": {FOREVER: 4}}, "takes for ever"),
        "targets for ever": ({"target_modules": FOREVER}, "takes for ever"),
        "excluded for ever": ({"exclude_modules": FOREVER}, "takes for ever"),
        "containers for ever": ({"layers_to_transform": [0], "layers_pattern": FOREVER}, "takes for ever"),
        "targets null": ({"target_modules": None}, "names no target_modules"),
        "targets empty": ({"target_modules": []}, "names no target_modules"),
        "targets missing": ({"target_modules": REMOVED}, "names no target_modules"),
        "targets as numbers": ({"target_modules": [1, 2]}, "must be names of modules"),
        "targets as a mapping": ({"target_modules": {"q_proj": 1}}, "must be names of modules"),
        "too few targets": ({"target_modules": ["q_proj"]}, "holds factors at .*v_proj, which target_modules"),
        "other targets": ({"target_modules": ["k_proj"]}, "PEFT ignores them"),
        "too narrow an expression": ({"target_modules": r".*\.0\..*q_proj"}, "PEFT ignores them"),
        "too many targets": ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "holds none for .*o_proj"),
        "all-linear but for some": ({"target_modules": "all-linear"}, "holds none for"),
        "excluded with factors": ({"exclude_modules": ["v_proj"]}, "PEFT ignores them"),
        "excluded by an expression": ({"exclude_modules": r".*layers\.1.*"}, "PEFT ignores them"),
        "layer with factors left out": ({"layers_to_transform": [0]}, "PEFT ignores them"),
        "layer left out by number": ({"layers_to_transform": 0}, "PEFT ignores them"),
        "layers of another container": ({"layers_to_transform": [0, 1], "layers_pattern": "h"}, "PEFT ignores them"),
        "layers as text": ({"layers_to_transform": "0"}, "must be layer numbers"),
        "layers as texts": ({"layers_to_transform": ["0"]}, "must be layer numbers"),
        "layers and an expression": (
            {"layers_to_transform": [0], "target_modules": ".*q_proj"},
            "chooses layers by number and target_modules by one expression",
        ),
        "containers without layers": ({"layers_pattern": "layers"}, "without layers_to_transform"),
        "rank pattern against factors": ({"rank_pattern": {"q_proj": 2}}, "its configuration says 2"),
        "no type": ({"peft_type": REMOVED}, "of PEFT type None"),
        "type in small letters": ({"peft_type": "lora"}, "of PEFT type lora"),
    }
    return [Case(name, {}, changes, says) for name, (changes, says) in changed.items()]


CASES = (*_equal(), *_beyond(), *_wrong())
