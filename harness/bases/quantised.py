"""Quantised base models: those that a configuration quantises, and those that are stored so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.planning.model import ModelSection

PACKAGE, EXTRA = "bitsandbytes", "pip install '.[quantised]' in the harness's checkout, or pip install bitsandbytes"
_BLOCK, _OUTER = 64, 256
"""Weights that share a scale in bitsandbytes' 4-bit types, and scales that share one where they are quantised too."""
_DEQUANTISED = ("fp8",)
"""Ways of storing weights that transformers can turn back into matrices while it loads them."""


def stored_quantisation(config: Any) -> dict[str, Any] | None:
    """How a model's files are quantised, from its `transformers` configuration; None where they are not."""
    found = getattr(config, "quantization_config", None)
    return found if found is None or isinstance(found, dict) else dict(found.to_dict())


def described(config: Any) -> str:
    """What a table's note adds to the name of a model whose files are quantised; empty for others."""
    stored = stored_quantisation(config)
    if stored is None:
        return ""
    if not _by_bitsandbytes(stored):
        return f", dequantised from {_kind(stored)}"
    return ", stored in " + ("8 bits (LLM.int8())" if stored.get("load_in_8bit") else _four(stored))


def require_quantised(section: ModelSection, config: Any) -> None:
    """See that a base can be had as a configuration and its own files want it, before anything is loaded.

    Raises:
        HarnessError: its files are quantised in a way that nothing can be put beside, or twice; or a package lacks.
    """
    stored = stored_quantisation(config)
    if stored is not None and section.quantization is not None:
        raise HarnessError(
            f"The model '{section.name}' is stored quantised ({_kind(stored)}): leave model.quantization out, or "
            "choose the model that it was made from."
        )
    if stored is not None and not _by_bitsandbytes(stored) and _kind(stored) not in _DEQUANTISED:
        raise HarnessError(
            f"The model '{section.name}' is stored quantised by {_kind(stored)}, whose layers are no linear layers "
            "that experts can be put beside: choose the model that it was made from, where that is too large with "
            "--set model.quantization=4bit."
        )
    if is_packed(section, config) and find_spec(PACKAGE) is None:
        raise HarnessError(f"Quantised models need the package {PACKAGE}: {EXTRA}.")


def is_packed(section: ModelSection, config: Any) -> bool:
    """Whether weights are held in 4 or 8 bits, by the configuration or in the model's files."""
    stored = stored_quantisation(config)
    return section.quantization is not None or (stored is not None and _by_bitsandbytes(stored))


def loading(section: ModelSection, config: Any) -> dict[str, Any]:
    """Arguments of `from_pretrained` that make a base what `require_quantised` let pass; none for an ordinary one."""
    import transformers

    stored = stored_quantisation(config)
    if stored is not None:
        if _by_bitsandbytes(stored):
            return {}
        return {"quantization_config": transformers.FineGrainedFP8Config(**_fields(stored), dequantize=True)}
    if section.quantization is None:
        return {}
    return {"quantization_config": transformers.BitsAndBytesConfig(**_arguments(section))}


def written(section: ModelSection) -> str:
    """The same as code, for an ordinary adapter's user: a further argument, or nothing."""
    if section.quantization is None:
        return ""
    arguments = ", ".join(f"{name}={value!r}" for name, value in _arguments(section).items())
    return f", quantization_config=BitsAndBytesConfig({arguments})"


def retype(model: Any, section: ModelSection, config: Any) -> None:
    """Give a base that is stored in 4 or 8 bits the type that a configuration computes in; transformers leaves such
    models in the one that they were saved in."""
    import torch

    from methods.routing.frozen import stored_as

    stored = stored_quantisation(config)
    if stored is None or not _by_bitsandbytes(stored):
        return
    kind = getattr(torch, section.dtype)
    whole = tuple(model._keep_in_fp32_modules or ())
    for path, module in model.named_modules():
        if stored_as(module) is not None:
            module.compute_dtype = kind
        for name, parameter in module.named_parameters(recurse=False):
            packed = name == "weight" and stored_as(module) is not None
            if not packed and not any(part in f"{path}.{name}".split(".") for part in whole):
                parameter.data = parameter.data.to(kind)


@contextmanager
def with_adapters(model: Any) -> Iterator[None]:
    """Inside the block transformers knows that what is trained on a quantised model lies beside its weights, which it
    learns of PEFT's adapters alone."""
    if not getattr(model, "is_quantized", False):
        yield
        return
    model._hf_peft_config_loaded, before = True, model._hf_peft_config_loaded
    try:
        yield
    finally:
        model._hf_peft_config_loaded = before


def weight_bytes(config: Any, section: ModelSection) -> int:
    """Bytes of a base model's weights in memory, quantised or not; from shapes alone (meta device)."""
    import torch
    from torch import nn
    from transformers.quantizers.base import get_keys_to_not_convert

    from results.ground.loading import model_of

    with torch.device("meta"):
        model = model_of(config)
    width = 4 if section.dtype == "float32" else 2
    total = width * sum(parameter.numel() for parameter in model.parameters())
    stored = stored_quantisation(config)
    said = _arguments(section) if stored is None else stored
    if not (said.get("load_in_4bit") or said.get("load_in_8bit")):
        return int(total)
    left = said.get("llm_int8_skip_modules") or get_keys_to_not_convert(model)
    left = [*left, *(model._keep_in_fp32_modules or ())]
    for path, layer in model.named_modules():
        if type(layer) is nn.Linear and not any(f".{name}." in f".{path}." for name in left):
            total += _packed(layer.weight.numel(), layer.out_features, said) - width * layer.weight.numel()
    return int(total)


def _packed(numbers: int, rows: int, said: Mapping[str, Any]) -> int:
    if said.get("load_in_8bit"):
        return numbers + 4 * rows
    scales = math.ceil(numbers / _BLOCK)
    double = said.get("bnb_4bit_use_double_quant")
    return math.ceil(numbers / 2) + (scales + 4 * math.ceil(scales / _OUTER) if double else 4 * scales)


def _arguments(section: ModelSection) -> dict[str, Any]:
    """Of `BitsAndBytesConfig`; none without quantisation."""
    if section.quantization == "8bit":
        return {"load_in_8bit": True, "llm_int8_threshold": section.llm_int8_threshold}
    if section.quantization == "4bit":
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": section.bnb_4bit_quant_type,
            "bnb_4bit_use_double_quant": section.bnb_4bit_use_double_quant,
            "bnb_4bit_compute_dtype": section.bnb_4bit_compute_dtype or section.dtype,
        }
    return {}


def _kind(stored: Mapping[str, Any]) -> str:
    return str(stored.get("quant_method", "an unnamed method"))


def _by_bitsandbytes(stored: Mapping[str, Any]) -> bool:
    # Files of early versions name no method.
    return _kind(stored) == PACKAGE or ("quant_method" not in stored and "load_in_4bit" in stored)


def _four(stored: Mapping[str, Any]) -> str:
    double = " with double quantisation" if stored.get("bnb_4bit_use_double_quant") else ""
    return f"4 bits ({stored.get('bnb_4bit_quant_type', 'fp4')}{double})"


def _fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stored.items() if key not in ("quant_method", "dequantize")}
