"""What all static merges have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from methods.base import Expert, Method, MethodConfig
from methods.experts import pool_sites
from methods.merging.composed import Merged, Update
from methods.merging.lowrank import truncate_dense
from methods.routing.inject import check_architecture


class MergeConfig(MethodConfig):
    """Where a merged update goes."""

    fold: bool = Field(
        default=True,
        description="Add the update to a copy of the weights (the base's speed), or keep it beside them as factors; "
        "beside quantised weights it stays in any case.",
    )


class DenseMergeConfig(MergeConfig):
    """Of merges whose update is a dense matrix."""

    scaling: float = Field(default=1.0, description="Lambda: factor of the merged update.")
    rank: PositiveInt | None = Field(
        default=None, description="Cut the merged update to this rank by a truncated SVD; null keeps it whole."
    )

    @model_validator(mode="after")
    def _factors_need_a_rank(self) -> Self:
        if not self.fold and self.rank is None:
            raise ValueError("a dense update cannot stay beside the weights as factors: set rank, or fold=true.")
        return self


class Merge(Method):
    """Frozen experts, one static update per site."""

    config: MergeConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)

    def merger(self, model: nn.Module, experts: Sequence[Expert], seed: int) -> Callable[[str, Tensor], Update]:
        """A function of (site, its frozen weight `[d_out, d_in]`) to the site's update.

        An expert that lacks the site is zero there and still counts in means.

        Args:
            model: the base model, not yet changed.
            experts: the pool.
            seed: of random choices.
        """
        raise NotImplementedError

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Merged:
        """See `Method.install`.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        sites = pool_sites(experts, model)
        merge = self.merger(model, experts, seed)
        return Merged(model, [expert.name for expert in experts], sites, merge, fold=self.config.fold)


def finished(delta: Tensor, config: DenseMergeConfig) -> Update:
    """A dense merge, scaled and cut as its configuration says."""
    delta = delta * config.scaling
    return delta if config.rank is None else truncate_dense(delta, config.rank)
