"""Balance losses N sum_i pbar_i f_i with a load f_i: of picks, and of routers that keep a number of experts of the
token's own."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field
from torch import Tensor

from methods.routing import (
    AuxiliaryLoss,
    LossTerm,
    MethodConfig,
    Record,
    RoutingBatch,
    StatisticsConfig,
    TermConfig,
    losses,
)


class BalanceConfig(MethodConfig):
    """A balance of picks."""

    coef: float = Field(default=0.01, ge=0, description="Coefficient; 0 leaves the term out.")


class PickLossConfig(StatisticsConfig):
    """Auxiliary loss of routers that keep the k best."""

    aux: BalanceConfig = BalanceConfig()


class PickBalance(AuxiliaryLoss):
    """`N sum_i f_i pbar_i` with f_i the picks of expert i per token, summed over a token's k places: k at balance, N
    when all mass is on the same k experts; f is held constant."""

    f_mode = "topk_freq"
    packs = True
    config: PickLossConfig

    def __init__(self, n_routers: int, n_experts: int, config: PickLossConfig, like: Tensor, k: int | None) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self.k = n_experts if k is None else k

    def shares(self, batch: RoutingBatch) -> tuple[Tensor, Tensor]:
        """Mean probabilities, and shares of picks held constant, `[G, N]` each."""
        _, point = self.statistics.point()
        return batch.pbar, batch.fbar(self.f_mode).detach() if point is None else point

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        if self.config.aux.coef == 0:
            return {}
        value = self.k * self.n_experts * losses.balance(*self.shares(batch))
        return {"aux": self.term(value, self.config.aux.coef)}


class LoadLossConfig(StatisticsConfig):
    """The balance of load and probability."""

    aux: TermConfig = TermConfig(coef=1e-2)
    times_N: bool = Field(default=True, description="Whether the sum is multiplied by the number of experts.")


class LoadLoss(AuxiliaryLoss):
    """N sum_i pbar_i f_i, with the gradient of both factors where both have one."""

    config: LoadLossConfig

    @abstractmethod
    def load(self, record: Record) -> Tensor:
        """What f is the mean of, `[b, t, K, N]`."""

    def means(self, batch: RoutingBatch) -> tuple[Tensor, Tensor]:
        """See `AuxiliaryLoss.means`."""
        return batch.pbar, batch.mean(self.load)

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        coefficient = self.config.aux.coef
        return {"aux": self.term(self.balance(batch), coefficient)} if coefficient else {}

    def balance(self, batch: RoutingBatch) -> Tensor:
        """The loss of each router, `[G]`."""
        at_p, at_f = self.statistics.point()
        load = batch.mean(self.load)
        value = losses.balance(batch.pbar, load.detach() if at_f is None else at_f)
        # The other factor's share of the gradient; it adds nothing to the value.
        other = batch.pbar.detach() if at_p is None else at_p
        value = value + losses.balance(other, load - load.detach())
        return value * self.n_experts if self.config.times_N else value
