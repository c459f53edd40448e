"""Shapes of a base model's linear layers, which decide whether experts and routers of another base fit it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from results.ground.loading import ConfigKey, model_of

Shapes = Mapping[str, tuple[int, int]]
"""`(d_out, d_in)` by module path, without output embeddings: vocabularies may differ."""


def model_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Shapes of a model with nothing installed on it."""
    embeddings: Any = getattr(model, "get_output_embeddings", None)
    head = None if embeddings is None else embeddings()
    return {
        path: (module.out_features, module.in_features)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def config_shapes(model_config: Any) -> dict[str, tuple[int, int]]:
    """The same from a `transformers` configuration alone, without weights."""
    return model_shapes(meta_model(model_config))


def meta_model(config: Any) -> Any:
    """A language model of a `transformers` configuration without weights, in eval mode; of equal configurations the
    same one, to look at and never to change."""
    return _meta_model(ConfigKey.of(config))


@lru_cache(maxsize=4)
def _meta_model(key: ConfigKey) -> Any:
    with torch.device("meta"):
        return model_of(key.config).eval()


def differences(theirs: Shapes, here: Shapes, most: int = 3) -> str:
    """What is unequal, as a list for a sentence; empty where the shapes are equal.

    Layers of one kind that differ in the same way are named once, their number written `*`.

    Args:
        theirs: of the base that experts and routers come from.
        here: of the base that they are to serve.
        most: kinds of layers that are spelled out.
    """
    kinds: dict[tuple[str, str], int] = {}
    for path in dict.fromkeys([*theirs, *here]):
        one, other = theirs.get(path), here.get(path)
        if one == other:
            continue
        kind = ".".join("*" if part.isdigit() else part for part in path.split("."))
        says = f"{_shape(one)} there and {_shape(other)} here"
        kinds[kind, says] = kinds.get((kind, says), 0) + 1
    named = [
        f"{kind} is {says}" + (f" (in {count} layers)" if count > 1 else "") for (kind, says), count in kinds.items()
    ]
    return "; ".join(named[:most]) + (f"; and {len(named) - most} more kinds" if len(named) > most else "")


def _shape(shape: tuple[int, int] | None) -> str:
    return "missing" if shape is None else f"{shape[0]}x{shape[1]}"
