"""How `transformers` makes a language model: by which class, and whose code it may run."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

DYNAMIC = "transformers_modules"
"""Package in which `transformers` puts the code that comes with a model once its user has allowed it."""


def auto_class_name(config: Any) -> str:
    """Name of the class that makes a language model of a `transformers` configuration."""
    return "AutoModelForSeq2SeqLM" if getattr(config, "is_encoder_decoder", False) else "AutoModelForCausalLM"


def auto_class(config: Any) -> Any:
    """The class that makes a language model of a `transformers` configuration; imports `transformers`."""
    import transformers

    return getattr(transformers, auto_class_name(config))


def model_of(config: Any) -> Any:
    """A language model of a `transformers` configuration, with fresh weights (on torch's current default device).

    Code that comes with the model runs only where the configuration itself is made by such code, which was allowed
    when it was loaded.
    """
    allowed = type(config).__module__.partition(".")[0] == DYNAMIC
    return auto_class(config).from_config(copy.deepcopy(config), trust_remote_code=allowed)


def asks_for_its_code(error: Exception) -> bool:
    """Whether `transformers` refused a model because it would have to run code that comes with it."""
    return isinstance(error, ValueError) and "trust_remote_code" in str(error)


@dataclass(frozen=True)
class ConfigKey:
    """A `transformers` configuration that is equal to another one of the same class and values, for caches."""

    kind: type
    values: str
    config: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, config: Any) -> ConfigKey:
        """The key of a configuration."""
        return cls(type(config), config.to_json_string(use_diff=False), config)


def peft_task_type(config: Any) -> str:
    """PEFT's word for what a language model of a `transformers` configuration does."""
    return "SEQ_2_SEQ_LM" if getattr(config, "is_encoder_decoder", False) else "CAUSAL_LM"
