"""Tiny random T5 models: the original form (ReLU, tied head) and Flan-T5's (gated GELU, a head of its own)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from methods import registry
from methods.base import Composed, Method, Unsupported
from methods.seeding import drawing_from
from methods.tiny import ARCHITECTURES, tiny_comparison, tiny_experts, tiny_model

POOL = ("a", "b", "c", "d")
QV = ("q", "v")
ALL = ("q", "k", "v", "o")


def make_t5(kind: str = "flan", dtype: torch.dtype = torch.float64) -> Any:
    """The tiny T5 of the conformance suite, or one of the original form."""
    if kind == "flan":
        return tiny_model("t5", dtype=dtype)
    values = {**ARCHITECTURES["t5"].values, "feed_forward_proj": "relu", "tie_word_embeddings": True}
    with drawing_from(3):
        model: Any = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("t5", **values))
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.15)
    return model.to(dtype).eval()


@cache
def _config() -> Any:
    return make_t5().config


@dataclass(frozen=True)
class Pair:
    """Prompts and shifted targets with their masks, `[b, t]` and `[b, t']`."""

    ids: Tensor
    mask: Tensor
    decoder: Tensor
    decoder_mask: Tensor

    def __getitem__(self, row: int) -> Pair:
        """One row without its padding."""
        prompt, target = self.mask[row].bool(), self.decoder_mask[row].bool()
        return Pair(*(x[row : row + 1, keep] for x, keep in zip(self, (prompt, prompt, target, target), strict=True)))

    def __iter__(self) -> Any:
        return iter((self.ids, self.mask, self.decoder, self.decoder_mask))


def make_pair(n: int = 4, *, left: bool = False) -> Pair:
    """Random prompts of 9, 7, 5, ... tokens (padded on the right, or left) and targets of 5, 4, 3, ..."""
    draw = torch.Generator().manual_seed(5)
    ids, decoder = (torch.randint(2, 64, (n, t), generator=draw) for t in (9, 5))
    decoder[:, 0] = 0
    mask, decoder_mask = torch.ones_like(ids), torch.ones_like(decoder)
    for row in range(n):
        padding = min(2 * row, 8)
        columns = slice(0, padding) if left else slice(9 - padding, 9)
        ids[row, columns] = mask[row, columns] = 0
        decoder[row, max(1, 5 - row) :] = decoder_mask[row, max(1, 5 - row) :] = 0
    return Pair(ids, mask, decoder, decoder_mask)


def run(model: Any, pair: Pair) -> Tensor:
    """Logits `[b, t', vocabulary]` without a cache or gradients."""
    with torch.no_grad():
        logits: Tensor = model(
            input_ids=pair.ids,
            attention_mask=pair.mask,
            decoder_input_ids=pair.decoder,
            decoder_attention_mask=pair.decoder_mask,
            use_cache=False,
        ).logits
    return logits


def make_method(name: str, overrides: Mapping[str, Any] | None = None, targets: tuple[str, ...] = QV) -> Method:
    """A method as a comparison over T5 runs it, after its check."""
    method = registry.create(name, overrides or {}).within(tiny_comparison(POOL, targets=targets))
    method.check(_config(), POOL)
    return method


def put(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    kind: str = "flan",
    targets: tuple[str, ...] = QV,
    fuse: bool = True,
) -> Composed:
    """A method on a fresh tiny T5."""
    model = make_t5(kind)
    method: Any = make_method(name, overrides, targets)
    if hasattr(method, "fuse"):
        method.fuse = fuse
    wanted = method.depends_on(POOL, "a")
    experts = [expert for expert in tiny_experts(model, POOL, targets=targets) if expert.name in wanted]
    composed: Composed = method.install(model, experts, seed=0)
    return composed


def _supported() -> tuple[str, ...]:
    found = []
    for name in registry.names():
        try:
            make_method(name)
        except Unsupported:
            continue
        found.append(name)
    return tuple(found)


SUPPORTED = _supported()
"""Methods that take a T5."""
