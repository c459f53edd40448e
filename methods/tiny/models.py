"""Tiny random models of every architecture that methods are tried on, and the one place where they are called."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from methods.routing.mamba import PROJECTIONS
from methods.seeding import drawing_from, seed_from
from results.ground.loading import model_of

VOCABULARY = 64
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

_DECODER: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_STATE_SPACE: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "state_size": 8,
    "time_step_rank": 6,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_ENCODER_DECODER: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}

Call = Callable[[Any, Tensor, Tensor | None, dict[str, Any]], Tensor]
"""(model, ids `[b, t]`, attention mask `[b, t]` or None, further arguments) to logits, see `model_logits`."""


def _call_decoder(model: Any, ids: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    logits: Tensor = model(input_ids=ids, attention_mask=mask, **options).logits
    return logits


_PROMPT = (5, 9, 3, 17, 22, 0)


def _call_encoder_decoder(model: Any, ids: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    """The encoder reads one prompt, with a padded column, whatever the decoder's tokens are."""
    prompt = torch.tensor(_PROMPT, device=ids.device).expand(len(ids), -1)
    logits: Tensor = model(
        input_ids=prompt,
        attention_mask=(prompt != 0).long(),
        decoder_input_ids=ids,
        decoder_attention_mask=mask,
        **options,
    ).logits
    return logits


@dataclass(frozen=True)
class TinyArchitecture:
    """One architecture.

    Attributes:
        model_type: the library's name of it.
        values: what its configuration sets.
        targets: last parts of the module paths where LoRAs go.
        call: how tokens become logits.
        untied: whether the head gets a matrix of its own where the library builds it tied: a T5's configuration cannot
            say what Flan-T5's weights are.
    """

    model_type: str
    values: Mapping[str, Any]
    targets: tuple[str, ...] = ATTENTION
    call: Call = field(default=_call_decoder, repr=False)
    untied: bool = False

    def config(self) -> Any:
        """The `transformers` configuration."""
        from transformers import AutoConfig

        return AutoConfig.for_model(self.model_type, **self.values)

    def known_config(self) -> Any:
        """The same, made once: to look at. The library takes its time to make one."""
        return _known(self.model_type)


ARCHITECTURES: Mapping[str, TinyArchitecture] = {
    "llama": TinyArchitecture("llama", _DECODER),
    # The window is shorter than the sequences of the tests, so that it matters.
    "mistral": TinyArchitecture("mistral", {**_DECODER, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 6}),
    "qwen2": TinyArchitecture("qwen2", _DECODER),
    # Heads are wider than width / heads here, as in the published models.
    "qwen3": TinyArchitecture("qwen3", {**_DECODER, "head_dim": 16}),
    "mamba": TinyArchitecture("mamba", _STATE_SPACE, PROJECTIONS),
    "falcon-mamba": TinyArchitecture("falcon_mamba", _STATE_SPACE, PROJECTIONS),
    # As Flan-T5.
    "t5": TinyArchitecture("t5", _ENCODER_DECODER, ("q", "v"), _call_encoder_decoder, untied=True),
}
"""Architectures by name; a new one needs nothing but its entry here."""


@cache
def _known(model_type: str) -> Any:
    return next(one for one in ARCHITECTURES.values() if one.model_type == model_type).config()


def tiny_model(architecture: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A random model of a few thousand parameters, in eval mode.

    Args:
        architecture: a name of `ARCHITECTURES`.
        seed: of the weights.
        dtype: of the parameters.

    Raises:
        KeyError: no architecture has that name.
    """
    return copy.deepcopy(_made(architecture, seed, torch.get_default_device())).to(dtype=dtype)


@cache
def _made(architecture: str, seed: int, device: torch.device) -> Any:
    """A `tiny_model`, made once and copied: the library takes its time to make one."""
    chosen = ARCHITECTURES[architecture]
    with drawing_from(seed_from("tiny", architecture, seed)):
        model: Any = model_of(chosen.config())
        if chosen.untied:
            head = model.get_output_embeddings()
            head.weight = nn.Parameter(torch.empty_like(head.weight))
        # The library's initial scale makes layers this narrow nearly linear, its biases start at zero and its norms of
        # queries and keys at one; other values make tests mean something.
        for name, parameter in model.named_parameters():
            if name.endswith("A_log"):
                continue  # logarithms of decay rates
            if parameter.dim() == 2 or name.endswith(("_proj.bias", "conv1d.bias")):
                nn.init.normal_(parameter, std=0.15)
            elif name.endswith(("q_norm.weight", "k_norm.weight", "mixer.D")):
                nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def tiny_llama(seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A random Llama with 2 layers, width 32, 4 heads and 2 key-value heads, in eval mode."""
    return tiny_model("llama", seed, dtype)


def architecture_of(model: nn.Module) -> TinyArchitecture:
    """The tiny architecture that a model is of.

    Raises:
        ValueError: it is of none.
    """
    config: Any = model.config
    for architecture in ARCHITECTURES.values():
        if architecture.model_type == config.model_type:
            return architecture
    raise ValueError(f"There is no tiny architecture of type {config.model_type}: add it to methods/tiny/models.py.")


def model_logits(model: nn.Module, ids: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    """Call a tiny model, whatever its architecture takes.

    Args:
        model: of one of `ARCHITECTURES`, with or without a method in it.
        ids: `[b, t]`.
        mask: attention mask `[b, t]`; None without padding.
        options: further arguments of the model's forward pass.

    Returns:
        Logits `[b, t, VOCABULARY]`; those at position i are of token i + 1.
    """
    return architecture_of(model).call(model, ids, mask, options)
