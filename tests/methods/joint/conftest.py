"""Methods that train experts from scratch, on tiny models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from methods import registry
from methods.base import Composed, Method
from methods.tiny import tiny_comparison, tiny_llama

POOL = ("a", "b", "c", "d")


def resolve(name: str, overrides: Mapping[str, Any] | None = None, **comparison: Any) -> Method:
    """A method as a comparison over four experts runs it."""
    return registry.create(name, overrides).within(tiny_comparison(POOL, **comparison))


def install(name: str, overrides: Mapping[str, Any] | None = None, *, model: Any = None, **comparison: Any) -> Composed:
    """That method on a tiny model in float64."""
    model = tiny_llama(dtype=torch.float64) if model is None else model
    return resolve(name, overrides, **comparison).install(model, [], seed=0)


def shake_parameters(composed: Composed, *groups: str, std: float = 0.1, seed: int = 0) -> None:
    """Add noise to all parameters of the named groups, so that nothing is zero or equal by accident."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for group in groups:
            for parameter in composed.groups()[group].values():
                parameter.add_(std * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))


@pytest.fixture
def resolved() -> Callable[..., Method]:
    return resolve


@pytest.fixture
def installed() -> Callable[..., Composed]:
    return install


@pytest.fixture
def shake() -> Callable[..., None]:
    return shake_parameters
