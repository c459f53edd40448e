"""LoRA-Mixer (arXiv 2507.00029) in its joint regime: after stage 1, routers and experts are trained together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from methods.mixer import Mixer, MixerConfig
from methods.routing import (
    Comparison,
    Expert,
    LossConfig,
    LossTerm,
    MethodConfig,
    RoutedComposed,
    RoutedLinear,
    RouterLosses,
    RoutingBatch,
    RoutingContext,
    Track,
    TrainingPhase,
    Unsupported,
    install_routed,
    losses,
)


class TrainedExpertsConfig(MethodConfig):
    """How the pool's experts are trained further in stage 2."""

    preserve_beta: float = Field(default=5e-5, ge=0, description="Coefficient of the preserve term.")
    preserve_set: Literal["all"] | tuple[str, ...] = Field(
        default="all", description="Experts that the preserve term holds: all, or a list of names."
    )
    lr: float | None = Field(default=None, gt=0, description="Learning rate; null takes the comparison's for stage 2.")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="LoRA dropout; null takes the comparison's.")


class MixerJointConfig(MixerConfig):
    """Configuration of `mixer-joint`: that of `mixer`, and the experts'."""

    experts: TrainedExpertsConfig = TrainedExpertsConfig()


class PreservingLosses(RouterLosses):
    """The mixer's losses, and beta sum ||theta - theta0||^2 over the experts' factors (Eq. 11 and 12, a sum)."""

    packs = True

    def __init__(self, n_routers: int, n_experts: int, config: LossConfig, like: Tensor) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self._beta = 0.0
        self._held: list[tuple[nn.Parameter, Tensor]] = []

    def hold(self, parameters: Iterable[nn.Parameter], beta: float) -> None:
        """Pull parameters towards their present values."""
        self._beta = beta
        self._held = [(parameter, parameter.detach().clone()) for parameter in parameters] if beta else []

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`; the preserve term is not ramped."""
        terms = super().terms(batch, progress)
        if self._held:
            terms["preserve"] = LossTerm(losses.preserve(self._held), self._beta, per_token=False)
        return terms


class MixerJoint(Mixer):
    """Stage 1 is hard routing, which equals training every expert alone: it starts from the pool's experts."""

    track: ClassVar[Track] = "joint"
    Config: ClassVar[type[MethodConfig]] = MixerJointConfig
    source_rates: ClassVar[Mapping[str, float]] = {"experts.lr": 1e-5}
    config: MixerJointConfig

    def pads(self) -> bool:
        """See `Method.pads`: dropout is drawn for every position."""
        return super().pads() or bool(self.config.experts.dropout)

    def within(self, comparison: Comparison) -> Self:
        """See `Method.within`."""
        experts = self.config.experts
        if experts.dropout is None:
            experts = experts.model_copy(update={"dropout": comparison.dropout})
        return type(self)(self.config.model_copy(update={"experts": experts}), name=self.name)

    def check(self, model_config: object, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        chosen = self.config.experts.preserve_set
        if chosen != "all" and (unknown := [name for name in chosen if name not in pool]):
            raise Unsupported(
                f"The preserved expert '{unknown[0]}' is not in the pool: name some of {', '.join(pool)}, or all."
            )

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RoutedComposed:
        """See `Method.install`."""
        context, names = RoutingContext(), [expert.name for expert in experts]
        settings = self.config.experts
        composed = install_routed(
            model,
            experts,
            context,
            self.routing(context, names, seed),
            train_experts=True,
            dropout=settings.dropout or 0.0,
        )
        assert isinstance(composed.loss, PreservingLosses)
        held = [n for n, name in enumerate(names) if settings.preserve_set == "all" or name in settings.preserve_set]
        composed.loss.hold(_factors(composed, held), settings.preserve_beta)
        return composed

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> PreservingLosses:
        """See `LinearlyRouted.loss`."""
        return PreservingLosses(n_routers, n_experts, self.config.loss, like)

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        router, experts = self.config.router, self.config.experts
        rates = {"routers": router.lr, "experts": experts.lr}
        lr = {group: rate for group, rate in rates.items() if rate is not None}
        return TrainingPhase("joint", "routing", ("routers", "experts"), lr=lr, weight_decay=router.weight_decay)


def _factors(composed: RoutedComposed, experts: Sequence[int]) -> Iterator[nn.Parameter]:
    """Trained factors of the chosen experts at all sites."""
    for site in composed.sites.values():
        assert isinstance(site, RoutedLinear)
        assert site.trainable is not None
        for slot in (site.trainable.slots[expert] for expert in experts):
            if slot is not None:
                yield from (site.trainable.A[slot], site.trainable.B[slot])
