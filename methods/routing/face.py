"""All that a router method imports, gathered; `methods.routing` offers it, and loads it when a name is asked for."""

# ruff: noqa: F401
from __future__ import annotations

from methods.base import (
    Budget,
    Comparison,
    Composed,
    Expert,
    LossTerm,
    Method,
    MethodConfig,
    Session,
    SiteFactors,
    Track,
    TrainingPhase,
    Unsupported,
)
from methods.routing import losses
from methods.routing.auxiliary import AuxiliaryLoss, RouterLosses, mean_entropy, z_loss
from methods.routing.blocks import BlockComposed, install_blocks
from methods.routing.build import MakeLoss, MakeProvider, Routing, install_hard, install_routed, install_static
from methods.routing.composed import RoutedComposed
from methods.routing.config import (
    AuxConfig,
    EntropyConfig,
    LossConfig,
    OverRouters,
    RouteConfig,
    RouterConfig,
    Scope,
    StatisticsConfig,
    TermConfig,
    refuse_large_k,
    refuse_over_routers,
)
from methods.routing.context import CountedTokens, RoutingContext, Side, of_tokens
from methods.routing.factors import Kept, MakeFactors, TrainableFactors, stacked_A, stacked_B
from methods.routing.ffn import BLOCK_PARTS, FORMS, PARTS, computes_its_form, feedforward_blocks, form_of
from methods.routing.first_pass import FirstPassComposed, Scalings, ScalingsReader
from methods.routing.frozen import dense_weight, model_like, weight_like
from methods.routing.groups import InputGroup
from methods.routing.inject import check_architecture, input_groups, layer_of
from methods.routing.linear import RoutedLinear, added
from methods.routing.losses import negative_log_product
from methods.routing.method import (
    LinearlyRouted,
    LinearRoutingConfig,
    RoutedMethod,
    TrainedRouters,
    TrainedRoutersConfig,
)
from methods.routing.probe import Weighing, refuse_bypassed, starting_as_base, summing_to_one, weighing_evenly
from methods.routing.providers import (
    Bank,
    LinearBank,
    LinearRouter,
    Provider,
    RandomRouter,
    wide,
    wide_linear,
    wide_parameter,
)
from methods.routing.router import HardRouting, Record, Router, WeightSource
from methods.routing.sides import reads_encoder
from methods.routing.sparsify import DENSE, Sparsifier
from methods.routing.statistics import RoutingBatch, expand_at
from methods.routing.tokens import in_towers, towers
from methods.seeding import drawing_from, generator, seed_from
