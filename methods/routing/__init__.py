"""Routed linear layers and their parts: one face for everything that a router method needs.

    from methods.routing import LinearRouter, MethodConfig, Provider, RoutedMethod, Routing, Sparsifier, TrainingPhase

A router method is usually a subclass of `RoutedMethod` whose `routing` names a weight provider (`LinearRouter`, or a
`Provider` of its own), a `Sparsifier` and an `AuxiliaryLoss`. The contract of methods (`Method`, `Composed`, `Expert`)
stands here too. Importing this package does not import torch; asking it for a name does.
"""

# ruff: noqa: F405 (a test compares the names with those of the module that has them)
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.routing.face import *  # noqa: F403

__all__ = [
    "BLOCK_PARTS",
    "DENSE",
    "FORMS",
    "PARTS",
    "AuxConfig",
    "AuxiliaryLoss",
    "Bank",
    "BlockComposed",
    "Budget",
    "Comparison",
    "Composed",
    "CountedTokens",
    "EntropyConfig",
    "Expert",
    "FirstPassComposed",
    "HardRouting",
    "InputGroup",
    "Kept",
    "LinearBank",
    "LinearRouter",
    "LinearRoutingConfig",
    "LinearlyRouted",
    "LossConfig",
    "LossTerm",
    "MakeFactors",
    "MakeLoss",
    "MakeProvider",
    "Method",
    "MethodConfig",
    "OverRouters",
    "Provider",
    "RandomRouter",
    "Record",
    "RouteConfig",
    "RoutedComposed",
    "RoutedLinear",
    "RoutedMethod",
    "Router",
    "RouterConfig",
    "RouterLosses",
    "Routing",
    "RoutingBatch",
    "RoutingContext",
    "Scalings",
    "ScalingsReader",
    "Scope",
    "Session",
    "Side",
    "SiteFactors",
    "Sparsifier",
    "StatisticsConfig",
    "TermConfig",
    "Track",
    "TrainableFactors",
    "TrainedRouters",
    "TrainedRoutersConfig",
    "TrainingPhase",
    "Unsupported",
    "Weighing",
    "WeightSource",
    "added",
    "check_architecture",
    "computes_its_form",
    "dense_weight",
    "drawing_from",
    "expand_at",
    "feedforward_blocks",
    "form_of",
    "generator",
    "in_towers",
    "input_groups",
    "install_blocks",
    "install_hard",
    "install_routed",
    "install_static",
    "layer_of",
    "losses",
    "mean_entropy",
    "model_like",
    "negative_log_product",
    "of_tokens",
    "reads_encoder",
    "refuse_bypassed",
    "refuse_large_k",
    "refuse_over_routers",
    "seed_from",
    "stacked_A",
    "stacked_B",
    "starting_as_base",
    "summing_to_one",
    "towers",
    "weighing_evenly",
    "weight_like",
    "wide",
    "wide_linear",
    "wide_parameter",
    "z_loss",
]


def __getattr__(name: str) -> Any:
    if name == "losses":
        return importlib.import_module("methods.routing.losses")
    if name in __all__:
        # By name, so that the parts may import one another through this package's folder.
        return getattr(importlib.import_module("methods.routing.face"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
