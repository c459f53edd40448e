"""Balance losses of routers that keep a number of experts of the token's own: N sum_i pbar_i f_i with a load f_i."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field
from torch import Tensor

from methods.routing import AuxiliaryLoss, LossTerm, Record, RoutingBatch, StatisticsConfig, TermConfig, losses


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
