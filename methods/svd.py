"""The weighted sum of all updates, cut to one LoRA by a truncated SVD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from methods.base import Expert, MethodConfig, Unsupported
from methods.merging.composed import Update
from methods.merging.lowrank import concatenated, truncate_factors
from methods.merging.method import Merge, MergeConfig
from methods.merging.updates import balanced, present


class SvdConfig(MergeConfig):
    """Configuration of `svd`."""

    rank: PositiveInt | None = Field(default=None, description="Of the merge; null takes the largest at the site.")
    weights: tuple[float, ...] | None = Field(
        default=None, description="One weight per expert, in the pool's order; null weighs each 1/N."
    )


class Svd(Merge):
    """The best update of a given rank to `sum_n w_n s_n B_n A_n`, site by site."""

    Config: ClassVar[type[MethodConfig]] = SvdConfig
    config: SvdConfig

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return False

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        weights = self.config.weights
        if weights is not None and len(weights) != len(pool):
            raise Unsupported(f"There are {len(weights)} weights for {len(pool)} experts: give one for each.")

    def merger(self, model: nn.Module, experts: Sequence[Expert], seed: int) -> Callable[[str, Tensor], Update]:
        """See `Merge.merger`."""
        names = [expert.name for expert in experts]
        weights = dict(zip(names, self.config.weights or [1 / len(names)] * len(names), strict=True))

        def merge(site: str, like: Tensor) -> Update:
            here = present(experts, site)
            A, B = concatenated([balanced(f, like) for _, f in here], [weights[name] for name, _ in here])
            return truncate_factors(A, B, self.config.rank or max(f.A.shape[0] for _, f in here))

        return merge
