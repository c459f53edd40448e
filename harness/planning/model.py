"""The section of a run's configuration that says which base model, in which arithmetic, and where."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from results.ground.settings import Settings

Quantization = Literal["4bit", "8bit"]
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways of spreading a model that accelerate knows by name."""
_OPTIONS = {
    "bnb_4bit_quant_type": "4bit",
    "bnb_4bit_use_double_quant": "4bit",
    "bnb_4bit_compute_dtype": "4bit",
    "llm_int8_threshold": "8bit",
}


def _known_map(value: str | dict[str, str | int]) -> str | dict[str, str | int]:
    """Raises ValueError: a name that is no way of spreading a model."""
    if isinstance(value, str) and value not in MAPS:
        raise ValueError(f"choose {', '.join(MAPS)}, or give devices by module path, not {value!r:.40}")
    return value


class ModelSection(Settings):
    """The base model: `name` is a bundled name, a hub id or a folder."""

    name: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    float32_matmul_precision: Literal["highest", "high", "medium"] = Field(
        default="highest",
        description="What products of float32 may round their factors to, as `torch.set_float32_matmul_precision` has "
        "it: nothing; TF32 or two bfloat16; bfloat16. Sums stay float32. A device without such units rounds nothing.",
    )
    quantization: Quantization | None = Field(
        default=None,
        description="Bits of the weights of linear layers but the head, by bitsandbytes: 4 (QLoRA) or 8 (LLM.int8()).",
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field(
        default="nf4", description="The 16 values that a weight may have, as QLoRA (arXiv 2305.14314) chose them."
    )
    bnb_4bit_use_double_quant: bool = Field(
        default=True, description="Quantise the scales of blocks too, as QLoRA does: 0.37 bits less a weight."
    )
    bnb_4bit_compute_dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None,
        description="Type of the products with dequantised weights; null for `dtype`. QLoRA has bfloat16 for both.",
    )
    llm_int8_threshold: float = Field(
        default=6.0,
        ge=0,
        description="Inputs of which some element is larger are multiplied unrounded (arXiv 2208.07339); 0 for none.",
    )
    chat_template: bool = False
    device: str = "auto"
    device_map: Annotated[str | dict[str, str | int], AfterValidator(_known_map)] | None = Field(
        default=None,
        description="Spread a base that is larger than one device over all of them, then the processor's memory, then "
        "the disk, by accelerate: auto, balanced, balanced_low_0, sequential, or a device by module path.",
    )
    max_memory: dict[str | int, str | int] | None = Field(
        default=None, description="Most of each device that the weights may take, e.g. {0: 20GiB, cpu: 60GiB}."
    )
    trust_remote_code: bool = Field(default=False, description="Whether code that comes with this model may run.")

    @model_serializer(mode="wrap")
    def _silent_by_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a key that is at its default, so that what is named by a configuration keeps its name."""
        values: dict[str, Any] = handler(self)
        older = ("name", "revision", "dtype", "chat_template", "device")
        fields = type(self).model_fields
        return {key: value for key, value in values.items() if key in older or value != fields[key].default}

    @model_validator(mode="after")
    def _rounds_float32(self) -> ModelSection:
        if self.float32_matmul_precision != "highest" and self.dtype != "float32":
            raise ValueError(f"float32_matmul_precision is about products of float32, and dtype is {self.dtype}")
        return self

    @model_validator(mode="after")
    def _quantises_what_is_said(self) -> ModelSection:
        for key, bits in _OPTIONS.items():
            if self.quantization != bits and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is about quantization={bits}, and quantization is {self.quantization}")
        return self

    @model_validator(mode="after")
    def _is_in_one_place(self) -> ModelSection:
        if self.device_map is None and self.max_memory is not None:
            raise ValueError("max_memory is about the devices of device_map: set device_map=auto")
        if self.device_map is not None and self.device != "auto":
            raise ValueError(f"device_map spreads the model, and device puts it on {self.device}: leave one out")
        return self

    @property
    def arithmetic(self) -> str:
        """Type of the weights, and what they and products of them are rounded to: what decides numbers beside the
        weights."""
        said: list[str] = [self.dtype]
        if self.float32_matmul_precision != "highest":
            said.append(f"{self.float32_matmul_precision} matmul precision")
        if self.quantization == "4bit":
            scales = " with double quantisation" if self.bnb_4bit_use_double_quant else ""
            said.append(f"weights quantised to {self.bnb_4bit_quant_type}{scales}")
            if self.bnb_4bit_compute_dtype not in (None, self.dtype):
                said.append(f"products with them in {self.bnb_4bit_compute_dtype}")
        if self.quantization == "8bit":
            said.append(f"products by LLM.int8() with threshold {self.llm_int8_threshold:g}")
        return ", ".join(said)
