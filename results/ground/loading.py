"""Which class of `transformers` loads a language model."""

from __future__ import annotations

from typing import Any


def auto_class_name(config: Any) -> str:
    """Name of the class that makes a language model of a `transformers` configuration."""
    return "AutoModelForSeq2SeqLM" if getattr(config, "is_encoder_decoder", False) else "AutoModelForCausalLM"


def auto_class(config: Any) -> Any:
    """The class that makes a language model of a `transformers` configuration; imports `transformers`."""
    import transformers

    return getattr(transformers, auto_class_name(config))


def peft_task_type(config: Any) -> str:
    """PEFT's word for what a language model of a `transformers` configuration does."""
    return "SEQ_2_SEQ_LM" if getattr(config, "is_encoder_decoder", False) else "CAUSAL_LM"
