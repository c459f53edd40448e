"""What methods that train experts of their own have in common: their LoRAs, their data, and where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import Field, PositiveInt
from torch import nn

from methods.experts import new_expert
from methods.pool import PoolExpert
from methods.routing import (
    Budget,
    Comparison,
    Expert,
    MakeFactors,
    Method,
    MethodConfig,
    RoutedComposed,
    RoutedMethod,
    Routing,
    RoutingContext,
    Track,
    TrainableFactors,
    TrainingPhase,
    Unsupported,
    Weighing,
    computes_its_form,
    feedforward_blocks,
    form_of,
    install_routed,
    starting_as_base,
    summing_to_one,
)
from results.ground.loading import ConfigKey, model_of

T = TypeVar("T")
JointData = Literal["stage1+routing", "stage1", "routing"]
_BUDGETS: dict[str, Budget] = {"stage1": "expert", "routing": "router"}


class LoraSection(MethodConfig):
    """LoRAs that a method makes itself; null takes the value of the comparison's experts."""

    rank: PositiveInt | None = Field(default=None, description="Rank of each.")
    alpha: float | None = Field(default=None, gt=0, description="LoRA alpha; null keeps the comparison's alpha/rank.")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="Dropout on the input of A in training.")
    targets: tuple[str, ...] | None = Field(default=None, description="Last parts of the module paths that get one.")
    lr: float | None = Field(default=None, gt=0, description="Learning rate of the LoRAs.")

    def within(self, comparison: Comparison, *, times: int = 1) -> Self:
        """With nothing left open; `times` multiplies a rank that is taken from the comparison."""
        rank = comparison.rank * times if self.rank is None else self.rank
        filled = {
            "rank": rank,
            "alpha": _or(self.alpha, comparison.alpha / comparison.rank * rank),
            "dropout": _or(self.dropout, comparison.dropout),
            "targets": _or(self.targets, comparison.targets),
            "lr": _or(self.lr, comparison.lr),
        }
        return self.model_copy(update=filled)

    def fresh(self, model: nn.Module, names: Sequence[str], seed: int) -> list[Expert]:
        """Untrained experts, which change nothing: A is random, B zero.

        Raises:
            Unsupported: rank, alpha or targets are still open.
        """
        if self.rank is None or self.alpha is None or self.targets is None:
            raise Unsupported("LoRAs need a shape: set lora.rank, lora.alpha and lora.targets, or run in a comparison.")
        return [new_expert(name, model, self.targets, r=self.rank, lora_alpha=self.alpha, seed=seed) for name in names]


class JointConfig(MethodConfig):
    """Of methods that train LoRAs from scratch."""

    lora: LoraSection = LoraSection()
    data: JointData = Field(
        default="stage1+routing",
        description="Training rows: those of the pool's experts and of the routers together, or one of them.",
    )

    def within(self, comparison: Comparison) -> Self:
        """With everything filled in that defaults to the comparison's."""
        return self.model_copy(update={"lora": self.lora.within(comparison)})


class SeveralConfig(JointConfig):
    """Of methods that train several experts from scratch."""

    dropout_masks: Literal["expert", "site"] = Field(
        default="expert", description="Dropout masks of every expert's own, as released, or one for all of a site."
    )

    @property
    def masks_each(self) -> bool:
        """Whether every expert has a dropout mask of its own."""
        return self.dropout_masks == "expert"


class ExpertsConfig(SeveralConfig):
    """Of those with one number of experts everywhere."""

    n_experts: PositiveInt | None = Field(default=None, description="Number of experts; null: as many as the pool has.")

    def within(self, comparison: Comparison) -> Self:
        """See `JointConfig.within`."""
        n_experts = _or(self.n_experts, len(comparison.experts))
        return super().within(comparison).model_copy(update={"n_experts": n_experts})


class JointMethod(RoutedMethod):
    """Experts trained from scratch together with their routers, on all of the comparison's training rows at once.

    Those are the rows that the pool's experts and then the routers of a composed row are trained on, so that a joint
    row differs in the method and not in the examples. Nothing of the pool but its size is used.
    """

    track: ClassVar[Track] = "joint"
    Config: ClassVar[type[MethodConfig]] = JointConfig
    handle: ClassVar[type[RoutedComposed]] = RoutedComposed
    """Class of what `install` returns."""
    config: JointConfig

    @property
    def weighed_as_base(self) -> Weighing:
        """Weights under which untrained experts leave the base's logits as they are; see `starting_as_base`."""
        return summing_to_one

    def within(self, comparison: Comparison) -> Self:
        """See `Method.within`."""
        return type(self)(self.config.within(comparison), name=self.name)

    def pads(self) -> bool:
        """See `Method.pads`: dropout is drawn for every position."""
        return super().pads() or bool(self.config.lora.dropout)

    def depends_on(self, pool: Sequence[str], own: str | None) -> tuple[str, ...]:
        """No expert: they are made here."""
        return ()

    def budgets(self) -> tuple[Budget, ...]:
        """See `Method.budgets`."""
        parts = self.config.data.split("+")
        return tuple(budget for part, budget in _BUDGETS.items() if part in parts)

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`. One rate for all groups, as published, unless router.lr is set."""
        router, rate = getattr(self.config, "router", None), self.config.lora.lr
        lr = {} if rate is None else dict.fromkeys(("experts", "attention", "routers", "loss"), rate)
        if router is not None and router.lr is not None:
            lr["routers"] = router.lr
        return TrainingPhase(
            "joint",
            self.config.data,
            ("experts",),
            lr=lr,
            budget="expert" if "expert" in self.budgets() else "router",
            weight_decay=0.0 if router is None else router.weight_decay,
        )

    def names(self, pool: Sequence[str] = ()) -> tuple[str, ...]:
        """Names of the experts, which belong to no task.

        Raises:
            Unsupported: their number is open.
        """
        n_experts = getattr(self.config, "n_experts", None) or len(pool)
        if not n_experts:
            raise Unsupported(f"{self.name} needs a number of experts: set n_experts, or run in a comparison.")
        return tuple(f"expert-{n}" for n in range(1, n_experts + 1))

    def targets(self) -> Sequence[str]:
        """Last parts of the module paths that get LoRAs; empty while they are open."""
        return self.config.lora.targets or ()

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, self.names(pool))
        found = _architecture(ConfigKey.of(model_config))
        missing = set(self.targets()) - found.projections
        if missing:
            raise Unsupported(
                f"{self.name} needs linear layers named {', '.join(sorted(missing))}, which models of type "
                f"{model_config.model_type} do not have: set lora.targets to layers that they have."
            )

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`; what the pool's experts look like does not matter here."""
        return Method.takes(self, pool)

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RoutedComposed:
        """See `Method.install`; `experts` is not looked at."""
        context = RoutingContext()
        fresh = self.fresh(model, seed)
        return starting_as_base(
            model, self.name, lambda: self.put(model, fresh, context, seed), weighing=self.weighed_as_base
        )

    def fresh(self, model: nn.Module, seed: int) -> list[Expert]:
        """Untrained experts.

        Raises:
            Unsupported: their number or shape is open, or does not fit the model.
        """
        return self.config.lora.fresh(model, self.names(), seed)

    def put(self, model: nn.Module, fresh: Sequence[Expert], context: RoutingContext, seed: int) -> RoutedComposed:
        """Put untrained experts into a model, with their routers."""
        return self.routed(model, fresh, context, self.routing(context, self.names(), seed))

    def routed(
        self, model: nn.Module, fresh: Sequence[Expert], context: RoutingContext, routing: Routing
    ) -> RoutedComposed:
        """`install_routed` with experts that are trained."""
        return install_routed(
            model,
            fresh,
            context,
            routing,
            train_experts=self.factors(),
            dropout=self.config.lora.dropout or 0.0,
            masks_each=getattr(self.config, "masks_each", False),
            handle=self.handle,
        )

    def factors(self) -> MakeFactors:
        """Makes the trained factors of a site."""
        return TrainableFactors


def block_parts(model_config: Any) -> tuple[str, ...]:
    """Names of the linear layers in a model's feed-forward blocks of known forms, from its configuration alone."""
    return _architecture(ConfigKey.of(model_config)).block_parts


def misformed_blocks(model_config: Any) -> str | None:
    """Class of a model's feed-forward blocks that do not compute what blocks of their parts do; None without any."""
    return _architecture(ConfigKey.of(model_config)).misformed


@dataclass(frozen=True)
class _Architecture:
    """What a model is made of: names of its linear layers, of those in feed-forward blocks, and of the
    class of blocks that compute something else than their parts' names say."""

    projections: frozenset[str]
    block_parts: tuple[str, ...]
    misformed: str | None


@lru_cache(maxsize=8)
def _architecture(key: ConfigKey) -> _Architecture:
    with torch.device("meta"):
        model = model_of(key.config)
    leaves = {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    wrong = [block for block in feedforward_blocks(model).values() if computes_its_form(block) is False]
    return _Architecture(frozenset(leaves), parts_of(model), type(wrong[0]).__name__ if wrong else None)


def parts_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the linear layers in a model's feed-forward blocks of known forms."""
    forms = [form for block in feedforward_blocks(model).values() if (form := form_of(block)) is not None]
    return tuple(dict.fromkeys(part for form in forms for part in form.parts))


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
