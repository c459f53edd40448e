"""The routing losses of GMoE (Bai et al. 2024, arXiv 2412.16216) on LoRA-Mixer's routers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from methods.routing import (
    AuxiliaryLoss,
    LinearlyRouted,
    LinearRoutingConfig,
    LossTerm,
    MethodConfig,
    Record,
    RoutingBatch,
    StatisticsConfig,
    TermConfig,
    TrainingPhase,
    expand_at,
    losses,
    wide_parameter,
)


class GmoeLossConfig(StatisticsConfig):
    """`poisson` is the distinction loss L_P of single tokens, `normal` the balance loss L_N of loads."""

    poisson: TermConfig = TermConfig(coef=0.005)
    normal: TermConfig = TermConfig(coef=8.0)
    rate: float = Field(default=1.5, ge=1, le=2, description="Initial rate of the Poisson shape; kept within [1, 2].")
    width: float | None = Field(default=None, gt=0, description="Initial width of the normal shape; null is N/2.")
    released: bool = Field(default=False, description="As in the authors' code instead of the paper.")
    lr: float | None = Field(default=None, gt=0, description="Rate of the shapes' parameters; null: the comparison's.")


class GmoeConfig(LinearRoutingConfig):
    """Configuration of `gmoe`."""

    loss: GmoeLossConfig = GmoeLossConfig()


class GmoeLosses(AuxiliaryLoss):
    """L_P = E[KL(poisson shape || sorted p)] and L_N = KL(normal shape || sorted mean load), for each router.

    Each router has a rate and a width of its own, trained with it: `[G]` each. They stay within [1, 2] and
    [0.5, N] by projection.
    """

    packs = True
    config: GmoeLossConfig

    def __init__(self, n_routers: int, n_experts: int, config: GmoeLossConfig, like: Tensor) -> None:
        super().__init__(n_routers, n_experts, config, like)
        width = n_experts / 2 if config.width is None else config.width
        self.rate = wide_parameter(torch.full((n_routers,), config.rate), like)
        self.width = wide_parameter(torch.full((n_routers,), width), like)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Rates and widths; counted apart from the routers."""
        return {"rate": self.rate, "width": self.width}

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        with torch.no_grad():
            self.rate.clamp_(1, 2)
            self.width.clamp_(0.5, self.n_experts)
        available = {
            "poisson": (self.config.poisson.coef, self.poisson),
            "normal": (self.config.normal.coef, self.normal),
        }
        return {name: self.term(of(batch), coef) for name, (coef, of) in available.items() if coef != 0}

    def poisson(self, batch: RoutingBatch) -> Tensor:
        """L_P of each router, `[G]`; a mean over tokens."""
        return self.distinction(batch, losses.shape_divergence)

    def distinction(self, batch: RoutingBatch, divergence: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Mean over tokens of a divergence of p from the Poisson shape, `[G]`."""
        shapes = self._by_record(losses.poisson_shape(self.rate, self.n_experts), batch)
        return batch.mean(lambda record: divergence(next(shapes), record.logits.log_softmax(-1)))

    @staticmethod
    def _by_record(values: Tensor, batch: RoutingBatch) -> Iterator[Tensor]:
        """Rows `[G, ...]` as they belong to the records, `[K, ...]` each."""
        return iter(values.split([record.logits.shape[-2] for record in batch.records]))

    def normal(self, batch: RoutingBatch) -> Tensor:
        """L_N of each router, `[G]`: routers meet it to first order at the running loads, widths exactly."""
        _, point = self.statistics.point()
        shape = losses.normal_shape(self.width, self.n_experts)
        load = batch.fbar(self.f_mode)
        if point is None:
            return losses.load_divergence(shape, load)
        at_point = losses.load_divergence(shape, point)
        expanded = expand_at(lambda at: losses.load_divergence(shape.detach(), at), load, point)
        return expanded + at_point - at_point.detach()


class ReleasedGmoeLosses(GmoeLosses):
    """As the authors' code has them: sum t |log(t/q)| in place of KL, and padding counted.

    A load is the probability that kept experts have before it is renormalised, counted since the first step of
    training (so that its gradient falls like 1/steps). The normal shapes of all layers are divided by their sum over
    all layers together, so that those of G routers are G times too small; they are taken at 0..N-1. Widths are
    unbounded; rates are clamped where they are used.
    """

    def __init__(self, n_routers: int, n_experts: int, config: GmoeLossConfig, like: Tensor) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self._counted = torch.zeros(n_routers, n_experts, dtype=self.rate.dtype, device=like.device)

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        whole = RoutingBatch(batch.records, None)
        count = whole.mean(kept_mass) * whole.tokens
        load = (self._counted + count) / (self._counted + count).sum(-1, keepdim=True)
        self._counted += count.detach()
        rates = self._by_record(losses.poisson_shape(self.rate.clamp(1, 2), self.n_experts), whole)
        poisson = whole.mean(lambda record: absolute_divergence(next(rates), record.logits.softmax(-1), 1e-16))
        normal = absolute_divergence(self.normal_shapes(), load, 1e-8)
        return {
            "poisson": self.term(poisson, self.config.poisson.coef),
            "normal": self.term(normal, self.config.normal.coef),
        }

    def normal_shapes(self) -> Tensor:
        """Normal densities at 0..N-1, `[G, N]`, falling, which sum to one over routers and experts together."""
        width = self.width.unsqueeze(-1)
        at = torch.arange(self.n_experts, dtype=width.dtype, device=width.device)
        density = (-(at - self.n_experts / 2).square() / (2 * width.square())).exp() / width.abs()
        return (density / density.sum()).sort(-1, descending=True).values

    def state(self) -> dict[str, Tensor]:
        """See `AuxiliaryLoss.state`."""
        return super().state() | {"statistics.counted": self._counted.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `AuxiliaryLoss.load_state`."""
        super().load_state(state)
        self._counted.copy_(state["statistics.counted"])


def kept_mass(record: Record) -> Tensor:
    """Probabilities of the experts that a token keeps, as they are before they are renormalised; `[b, t, K, N]`."""
    return torch.where(record.w > 0, record.logits.softmax(-1), 0.0)


def absolute_divergence(shape: Tensor, q: Tensor, eps: float) -> Tensor:
    """sum t |log(t/(q + eps))| with q sorted to fall: its gradient does not vanish towards its minimum."""
    return (shape * (shape / (q.sort(-1, descending=True).values + eps)).log().abs()).sum(-1)


def gmoe_losses(config: GmoeLossConfig, n_routers: int, n_experts: int, like: Tensor) -> GmoeLosses:
    """The two losses of G routers over N experts, as in the paper or as in the released code."""
    return (ReleasedGmoeLosses if config.released else GmoeLosses)(n_routers, n_experts, config, like)


def with_loss_rate(phase: TrainingPhase, lr: float | None) -> TrainingPhase:
    """A phase in which the losses' own parameters have a learning rate of their own, where one is given."""
    return phase if lr is None else replace(phase, lr={**phase.lr, "loss": lr})


class Gmoe(LinearlyRouted):
    """LoRA-Mixer's layer with GMoE's Poisson and normal losses."""

    version: ClassVar[int] = 2  # 1 counted renormalised weights under loss.released
    Config: ClassVar[type[MethodConfig]] = GmoeConfig
    source_rates: ClassVar[Mapping[str, float]] = {"router.lr": 2e-4}
    config: GmoeConfig

    def pads(self) -> bool:
        """See `Method.pads`: the released losses count padding."""
        return super().pads() or self.config.loss.released

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> GmoeLosses:
        """See `LinearlyRouted.loss`."""
        return gmoe_losses(self.config.loss, n_routers, n_experts, like)

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        return with_loss_rate(super().phase(), self.config.loss.lr)
