"""Routed models for benchmarks, and the same routing done by a loop over experts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.bench.measure import Options
from harness.models import BaseModel, load, model_config
from methods import registry
from methods.base import Expert
from methods.routing.composed import RoutedComposed
from methods.routing.inject import replace_modules
from methods.routing.linear import RoutedLinear
from methods.routing.method import RoutedMethod
from methods.routing.router import Router
from methods.seeding import drawing_from
from methods.tiny import tiny_experts
from results.ground.loading import model_of

TOP_K = 3


def base_model(options: Options) -> BaseModel:
    """The model that the options name, on their device and in their type, frozen and in eval mode.

    With `random_weights` its configuration alone is read, and nothing tokenizes.

    Raises:
        HarnessError: see `harness.models.load`.
    """
    if not options.random_weights:
        return load(options.model, dtype=options.dtype, device=options.device)
    config = model_config(options.model)
    config.dtype = getattr(torch, options.dtype)
    with torch.device(options.device), drawing_from(0):
        model = model_of(config).eval().requires_grad_(False)
    tokenizer: Any = None
    return BaseModel(options.model, "", f"{options.model}, random weights", model, tokenizer)


def pool(model: nn.Module, n: int, rank: int) -> list[Expert]:
    """Random experts on q, k, v and o: speed does not depend on their values."""
    return tiny_experts(model, [f"expert{i}" for i in range(n)], rank=rank)


def routed(model: nn.Module, experts: Sequence[Expert], top_k: int = TOP_K, *, fuse: bool = True) -> RoutedComposed:
    """`mixer` with untrained routers, installed on the model; dense where `top_k` would keep all experts."""
    route = {"train_k": top_k, "eval_k": top_k} if top_k < len(experts) else {"dense": True}
    method = registry.create("mixer", {"route": route})
    assert isinstance(method, RoutedMethod)
    method.fuse = fuse
    return method.install(model, experts, seed=0)


class LoopLinear(nn.Module):
    """A routed layer as a loop over its experts: each its own two products, weighted between them."""

    def __init__(self, site: RoutedLinear, router: Router) -> None:
        super().__init__()
        self.base = site.base
        self.router = router
        like = site.weight
        self.factors = [(f.A.to(like), f.B.to(like), f.scale) for f in site.factors if f is not None]

    def forward(self, x: Tensor) -> Tensor:
        """Base output plus every expert's weighted update, one after the other."""
        w = self.router.weights(x, x)[..., 0, :].to(x.dtype)
        y: Tensor = self.base(x)
        for n, (A, B, scale) in enumerate(self.factors):
            y = y + self.update(x, w[..., n : n + 1], A, B, scale)
        return y

    def update(self, x: Tensor, w: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        """One expert's share, with as little pointwise work as a loop can have."""
        return F.linear(F.linear(x, A) * (w * scale), B)


class PeftLoop(LoopLinear):
    """The loop with PEFT's order of operations: X-LoRA's layer weights the input and scales the output."""

    def update(self, x: Tensor, w: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        """See `LoopLinear.update`."""
        return F.linear(F.linear(x * w, A), B) * scale


@contextmanager
def looped(composed: RoutedComposed, kind: type[LoopLinear] = LoopLinear) -> Iterator[None]:
    """Inside the block, the sites of a model that was installed with `fuse=False` are loops over their experts.

    Routers, losses and the frozen layers are the same objects.
    """
    by_name = {name: router for router in composed.routers for name in router.names}
    loops = {}
    for name, site in composed.sites.items():
        assert isinstance(site, RoutedLinear)
        loops[name] = kind(site, by_name[name])
    routed_sites = replace_modules(composed.model, loops)
    try:
        yield
    finally:
        replace_modules(composed.model, routed_sites)


def copied(model: Any) -> Any:
    """A second model with weights of its own, so that both sides read their own memory."""
    with torch.no_grad():
        return copy.deepcopy(model)
