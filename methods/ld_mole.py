"""LD-MoLE (Zhuang et al. 2025, arXiv 2509.25684): Sparsegen weights whose sparsity is predicted for every token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from methods.loads import LoadLoss, LoadLossConfig
from methods.routing import (
    DENSE,
    Bank,
    LinearBank,
    LinearRouter,
    LossTerm,
    MethodConfig,
    Record,
    RoutedLinear,
    RouterConfig,
    Routing,
    RoutingBatch,
    RoutingContext,
    Sparsifier,
    TermConfig,
    TrainedRouters,
    TrainedRoutersConfig,
    Unsupported,
    generator,
    losses,
    wide,
    wide_parameter,
)


class SparsityConfig(MethodConfig):
    """The network that predicts lambda, one for all sites whose inputs are of one width."""

    hidden: PositiveInt = Field(default=512, description="Width of its hidden layer.")
    bias: float = Field(default=-2.5, description="Initial bias of its output.")
    hidden_bias: float = Field(default=0.0, description="Initial biases of its hidden layer; released: -2.5.")
    eps: float = Field(default=1e-2, gt=0, lt=1, description="Lambda stays below one minus this.")


class ShortfallConfig(TermConfig):
    """The sparsity loss: by how much lambda falls short of what leaves a token `k` experts."""

    k: PositiveInt = Field(default=2, description="Most experts that a token is to get.")


class LdMoleLossConfig(LoadLossConfig):
    """A balance of weights and picks, and the sparsity loss."""

    aux: TermConfig = TermConfig(coef=1.0)
    sparse: ShortfallConfig = ShortfallConfig()


class LdMoleConfig(TrainedRoutersConfig):
    """Configuration of `ld-mole`."""

    sparsity: SparsityConfig = SparsityConfig()
    loss: LdMoleLossConfig = LdMoleLossConfig()


def sparsegen(z: Tensor, lam: Tensor) -> Tensor:
    """`argmin_p |p - z|^2 - lambda |p|^2` on the simplex (Laha et al. 2018; LD-MoLE Eq. 4 and Proposition 1).

    Sparsemax at lambda 0, the largest score alone as lambda rises to 1, uniform as it falls without bound.

    Args:
        z: scores `[..., N]`.
        lam: `[...]`, below 1.

    Returns:
        `[..., N]`, sums to one.
    """
    slack = 1 - lam.unsqueeze(-1)
    falling = z.sort(-1, descending=True).values
    sums = falling.cumsum(-1)
    counts = torch.arange(1, z.shape[-1] + 1, device=z.device)
    size = (slack + counts * falling > sums).sum(-1, keepdim=True).clamp(min=1)
    tau = (sums.gather(-1, size - 1) - slack) / size
    return (z - tau).clamp(min=0) / slack


def shortfall(z: Tensor, lam: Tensor, k: int) -> Tensor:
    """How far lambda `[...]` is below the least one that leaves at most k of N experts (LD-MoLE's sparsity loss).

    `[1 - sum_{i <= k} (z_(i) - z_(k+1)) - lambda]_+` with z falling and held constant; 0 where no more than k are kept.
    """
    falling = z.detach().sort(-1, descending=True).values
    least = 1 - (falling[..., :k] - falling[..., k : k + 1]).sum(-1)
    return (least - lam).clamp(min=0)


def sparsity_network(d_in: int, config: SparsityConfig, *, seed: int, like: Tensor) -> nn.Sequential:
    """From inputs `[..., d_in]` to numbers `[..., 1]` whose log-sigmoid plus 1 - eps is lambda."""
    layers = []
    shapes = ((d_in, config.hidden, config.hidden_bias), (config.hidden, 1, config.bias))
    for part, (fan_in, fan_out, bias) in enumerate(shapes):
        layer = nn.Linear(fan_in, fan_out, device="meta")
        bound = fan_in**-0.5
        draw = generator("ld-mole", d_in, part, seed)
        layer.weight = wide_parameter(torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=draw), like)
        layer.bias = wide_parameter(torch.full((fan_out,), bias), like)
        layers.append(layer)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


class SparsegenRouter(LinearRouter):
    """A linear router and the network of its width, which the first router of that width owns."""

    packs = True

    def __init__(
        self,
        n_experts: int,
        d_in: int,
        config: RouterConfig,
        sparsity: SparsityConfig,
        network: nn.Sequential | None,
        *,
        name: str,
        seed: int,
        like: Tensor,
    ) -> None:
        super().__init__(n_experts, d_in, config, name=name, seed=seed, like=like)
        self.eps = sparsity.eps
        if network is None:
            self.sparsity = network = sparsity_network(d_in, sparsity, seed=seed, like=like)
        # Inside a tuple: not a module of every router, so that it is trained, saved and counted once.
        self._network = (network,)

    @property
    def network(self) -> nn.Sequential:
        """What predicts lambda."""
        return self._network[0]

    def lam(self, x: Tensor) -> Tensor:
        """Lambda of each token, `[...]`, below 1 - eps."""
        with torch.autocast(x.device.type, enabled=False):
            # One network serves all sites of a width, also those on other devices.
            predicted: Tensor = self.network(wide(x).to(next(self.network.parameters()).device)).to(x.device)
        return F.logsigmoid(predicted).squeeze(-1) + (1 - self.eps)

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return SparsegenBank(providers)


class SparsegenBank(LinearBank):
    """Routers of K sites that read one input, hence share lambda."""

    of_softmax = False

    def weights(self, logits: Tensor, x: Tensor, sparsifier: Sparsifier, training: bool) -> Tensor:
        """See `Bank.weights`; leaves lambda aside for the sparsity loss."""
        lam = self.providers[0].lam(x).unsqueeze(-1).expand(logits.shape[:-1])
        self.aside = lam if training else None
        return sparsegen(logits, lam)


class LdMoleLoss(LoadLoss):
    """`N sum_i wbar_i f_i` with f_i the share of all picks that went to expert i, held constant, and the shortfall."""

    packs = True
    config: LdMoleLossConfig

    def load(self, record: Record) -> Tensor:
        """See `LoadLoss.load`: whether an expert is picked."""
        return (record.w > 0).to(record.w.dtype)

    def means(self, batch: RoutingBatch) -> tuple[Tensor, Tensor]:
        """Mean weights, in the place of pbar, and mean picks."""
        return batch.mean(lambda record: record.w), batch.mean(self.load)

    def balance(self, batch: RoutingBatch) -> Tensor:
        """See `LoadLoss.balance`."""
        _, point = self.statistics.point()
        picks = batch.mean(self.load).detach() if point is None else point
        value = losses.balance(batch.mean(lambda record: record.w), picks / picks.sum(-1, keepdim=True))
        return value * self.n_experts if self.config.times_N else value

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        terms, sparse = super().terms(batch, progress), self.config.sparse
        if sparse.coef:
            terms["sparse"] = self.term(batch.mean(lambda record: _short(record, sparse.k)), sparse.coef)
        return terms


def _short(record: Record, k: int) -> Tensor:
    assert record.aside is not None
    return shortfall(record.logits, record.aside, k)


class LdMole(TrainedRouters):
    """As many experts for a token as a predicted sparsity leaves; weights are differentiable and sum to one."""

    Config: ClassVar[type[MethodConfig]] = LdMoleConfig
    source_rates: ClassVar[Mapping[str, float]] = {"router.lr": 1e-4}
    config: LdMoleConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        sparse = self.config.loss.sparse
        if sparse.coef and sparse.k >= len(pool):
            raise Unsupported(
                f"A sparsity loss that allows {sparse.k} experts of {len(pool)} asks for nothing: "
                f"set loss.sparse.k below {len(pool)}, or loss.sparse.coef=0, or name more experts."
            )

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        config = self.config
        networks: dict[int, nn.Sequential] = {}

        def provider(name: str, site: RoutedLinear) -> SparsegenRouter:
            d_in = site.in_features
            router = SparsegenRouter(
                len(pool),
                d_in,
                config.router,
                config.sparsity,
                networks.get(d_in),
                name=name,
                seed=seed,
                like=site.weight,
            )
            networks[d_in] = router.network
            return router

        def loss(n_routers: int, n_experts: int, like: Tensor) -> LdMoleLoss:
            return LdMoleLoss(n_routers, n_experts, config.loss, like)

        return Routing(provider, DENSE, scope=config.router.scope, loss=loss)
