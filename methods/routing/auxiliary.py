"""Auxiliary losses of routers, assembled from the loss zoo, the statistics and a configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import LossTerm
from methods.routing import losses
from methods.routing.config import LossConfig, StatisticsConfig
from methods.routing.statistics import BalanceStatistics, RoutingBatch, expand_at


class AuxiliaryLoss(ABC):
    """Losses of all routers of a composed model, added up over routers as `over_routers` says.

    Subclasses say which terms there are; parameters of a loss live here and are trained as the group `loss`.

    Attributes:
        layers: the layer of each of the G routers, in order; each is one of its own until somebody says otherwise.
    """

    packs: bool = False
    """Whether its terms are made of counted tokens, whichever sequence they are of; see `RoutedComposed`. Every class
    says so itself: one that derives from it may look at more."""

    f_mode = "topk_score"
    """What running statistics follow as load."""

    def __init__(self, n_routers: int, n_experts: int, config: StatisticsConfig, like: Tensor) -> None:
        self.config = config
        self.n_experts = n_experts
        self.layers: Sequence[Hashable] = range(n_routers)
        self.statistics = BalanceStatistics(n_routers, n_experts, config, like)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.packs = cls.__dict__.get("packs", False)

    @abstractmethod
    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """Terms of one micro-batch, un-scaled, with their coefficients at this point of training."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters of the loss itself."""
        return {}

    def __call__(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """Take the micro-batch into the statistics and return its terms; none in a statistics pass."""
        scope = self.config.stats_scope
        if scope == "accum" and not torch.is_grad_enabled():
            self.statistics.observe(*self.means(batch), batch.tokens)
            return {}
        if scope == "ema":
            self.statistics.observe(*self.means(batch), batch.tokens)
        return self.terms(batch, progress)

    def means(self, batch: RoutingBatch) -> tuple[Tensor, Tensor]:
        """What the statistics follow, `[G, N]` each: pbar, and the load that `f_mode` names."""
        return batch.pbar, batch.fbar(self.f_mode)

    def end_window(self) -> None:
        """Called after each optimiser step."""
        self.statistics.end_window()

    def term(self, values: Tensor, coefficient: float, layers: Sequence[Hashable] | None = None) -> LossTerm:
        """Losses that are means over counted tokens, added up over routers.

        The term's value is a mean over routers (under `layer_sum` of layers' means) in every reading, so that it can be
        read in a log; its coefficient carries how many of them the sum adds.

        Args:
            values: `[G]`, or a scalar where one loss is taken over all routers at once.
            coefficient: of one router's loss.
            layers: of the G values; the routers' own by default.
        """
        over = self.config.over_routers
        if values.dim() == 0:
            return LossTerm(values, coefficient, counted=self.config.stats_tokens)
        if over != "layer_sum":
            count = len(values) if over == "sum" else 1
            return LossTerm(values.mean(), count * coefficient, counted=self.config.stats_tokens)
        named = self.layers if layers is None else layers
        sizes = Counter(named)
        weights = values.new_tensor([1 / (len(sizes) * sizes[layer]) for layer in named])
        return LossTerm(weights @ values, len(sizes) * coefficient, counted=self.config.stats_tokens)

    def state(self) -> dict[str, Tensor]:
        """Running statistics; parameters are in the composed model's groups."""
        return self.statistics.state() if self.config.stats_scope == "ema" else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        if self.config.stats_scope == "ema":
            self.statistics.load_state(state)


class RouterLosses(AuxiliaryLoss):
    """The sum of terms in a `LossConfig`: `outer * ramp * sum coef * term`; terms with coefficient 0 cost nothing."""

    packs = True
    config: LossConfig

    def __init__(self, n_routers: int, n_experts: int, config: LossConfig, like: Tensor) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self.f_mode = config.aux.f_mode

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        config = self.config
        available: dict[str, tuple[float, Callable[[RoutingBatch], Tensor]]] = {
            "aux": (config.aux.coef, self.aux),
            "entropy": (config.entropy.sign * config.entropy.coef, mean_entropy),
            "mi": (config.mi.coef, self.mutual_information),
            "cv2": (config.cv2.coef, self.squared_cv),
            "z": (config.z.coef, z_loss),
        }
        ramp = config.outer * losses.ramp(progress, config.warmup_frac, config.warmup_shape)
        return {
            name: self.term(of(batch), ramp * coefficient)
            for name, (coefficient, of) in available.items()
            if coefficient != 0
        }

    def aux(self, batch: RoutingBatch) -> Tensor:
        """sum_i pbar_i fbar_i of each router, `[G]`, times N if asked for."""
        config = self.config.aux
        at_p, at_f = self.statistics.point()
        fbar = batch.fbar(config.f_mode)
        constant = fbar.detach() if at_f is None else at_f
        value = losses.balance(batch.pbar, constant)
        if not config.detach_f:
            # The other factor's share of the gradient; it adds nothing to the value.
            other = batch.pbar.detach() if at_p is None else at_p
            value = value + losses.balance(other, fbar - fbar.detach())
        return value * self.n_experts if config.times_N else value

    def mutual_information(self, batch: RoutingBatch) -> Tensor:
        """-H(pbar) + E[H(p)] of each router, `[G]` (DS-MoE, arXiv 2404.05567)."""
        at_p, _ = self.statistics.point()
        return expand_at(losses.negative_entropy, batch.pbar, at_p) + mean_entropy(batch)

    def squared_cv(self, batch: RoutingBatch) -> Tensor:
        """Squared coefficient of variation of pbar of each router, `[G]`."""
        at_p, _ = self.statistics.point()
        return expand_at(losses.squared_cv, batch.pbar, at_p)


def mean_entropy(batch: RoutingBatch) -> Tensor:
    """E[H(p)] of each router, `[G]`."""
    return batch.mean(lambda record: losses.entropy_of_logits(record.logits))


def z_loss(batch: RoutingBatch) -> Tensor:
    """E[logsumexp(logits)^2] of each router, `[G]`."""
    return batch.mean(lambda record: losses.logsumexp_squared(record.logits))
