"""The routing losses of AESL (Guo et al. 2025, arXiv 2505.22323) on LoRA-Mixer's routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from methods.routing import (
    AuxiliaryLoss,
    LinearlyRouted,
    LinearRoutingConfig,
    LossTerm,
    MethodConfig,
    OverRouters,
    RoutedLinear,
    Routing,
    RoutingBatch,
    RoutingContext,
    StatisticsConfig,
    TermConfig,
    WeightSource,
    expand_at,
    layer_of,
    losses,
    reads_encoder,
    stacked_B,
    wide,
)

_EPS = 1e-8
_NAMES = ("aux", "ortho", "variance")


class AeslLossConfig(StatisticsConfig):
    """`aux` balances, `ortho` keeps the outputs of a token's experts apart, `variance` spreads weights over tokens."""

    over_routers: OverRouters = Field(
        default="sum", description="Mean or sum over routers, or the sum over layers of each layer's mean."
    )
    aux: TermConfig = TermConfig(coef=1e-3)
    ortho: TermConfig = TermConfig(coef=1e-3)
    variance: TermConfig = TermConfig(coef=1e-3)
    calibrate: bool = Field(default=True, description="Whether `coef` is the size that a term has at the start.")
    ortho_weighted: bool = Field(
        default=False, description="Whether outputs are weighted in `ortho`, as they are used."
    )


class AeslConfig(LinearRoutingConfig):
    """Configuration of `aesl`."""

    loss: AeslLossConfig = AeslLossConfig()


class Overlaps:
    """Looks at the experts' outputs at sites that read one input; passes the weights of their source on.

    The outputs are never formed: with h_n = A_n x, the inner product of two of them is
    h_j^T (s_j s_m B_j^T B_m) h_m, N r x N r work instead of N d_out for each token.

    Attributes:
        encoder: whether the sites read the encoder's tokens of an encoder-decoder model.
        layers: the layer of each site.
        latest: L_o of each token at each site, `[b, t, G]`, of the latest training pass.
    """

    def __init__(
        self, sites: Sequence[RoutedLinear], source: WeightSource, context: RoutingContext, weighted: bool
    ) -> None:
        self.source = source
        self.context = context
        self.weighted = weighted
        self.encoder = reads_encoder(sites[0].name)
        self.layers = [layer_of(site.name) for site in sites]
        self.latest: Tensor | None = None
        self.sites = tuple(sites)
        self._frozen = None if any(site.trainable is not None for site in sites) else self._grams()

    def weights(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor:
        """See `WeightSource.weights`."""
        w = self.source.weights(x, h, products)
        if self.context.training:
            latest = self.of(wide(h), w)
            self.latest = latest if self.context.device is None else latest.to(self.context.device)
        return w

    def _grams(self) -> Tensor:
        """Inner products of the columns of all experts' s B at each site, `[G, N, r, N, r]`; of trained ones with
        graph."""
        n_experts = len(self.sites[0].factors)
        rank = max(site.rank for site in self.sites)
        each = []
        for site in self.sites:
            if site.trainable is None:
                each.append(wide(stacked_B(site.factors, rank, site.weight)))
            else:
                each.append(wide(site.trainable.stacked(range(n_experts), site.weight.dtype)[1].t()))
        return torch.stack([B @ B.t() for B in each]).unflatten(2, (n_experts, -1)).unflatten(1, (n_experts, -1))

    def of(self, h: Tensor, w: Tensor) -> Tensor:
        """Mean over pairs of selected experts of the squared projection of one's output on the other's.

        Args:
            h: shrunk inputs `[b, t, G, N, r]`.
            w: applied weights `[b, t, G or 1, N]`.
        """
        grams = self._grams() if self._frozen is None else self._frozen
        halfway = torch.einsum("btgja,gjamc->btgjmc", h, grams)
        inner = torch.einsum("btgjmc,btgmc->btgjm", halfway, h)
        if self.weighted:
            inner = inner * w.unsqueeze(-1) * w.unsqueeze(-2)
        length = inner.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
        selected = w > 0
        pairs = selected.unsqueeze(-1) & selected.unsqueeze(-2)
        pairs = pairs & ~torch.eye(w.shape[-1], dtype=torch.bool, device=w.device)
        projected = inner.square() * length / (length + _EPS).square()
        count = pairs.sum((-2, -1)).clamp(min=1)
        return (projected * pairs).sum((-2, -1)) / count


class AeslLosses(AuxiliaryLoss):
    """`aux` N sum pbar_i fbar_i with f the share of picks, `ortho` L_o, `variance` L_v = -sum_i Var(s_i) over tokens.

    With calibration a term's coefficient is the power of ten that brings its size in the first window of training
    nearest to `coef`; it is 0 in that window, in which running means have no history either. The size is that at one
    router, a mean over them, whatever they add up to.
    """

    packs = True
    config: AeslLossConfig
    f_mode = "topk_freq"

    def __init__(
        self, n_routers: int, n_experts: int, config: AeslLossConfig, like: Tensor, overlaps: Sequence[Overlaps]
    ) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self.overlaps = tuple(overlaps)
        self._coefficients = torch.zeros(len(_NAMES), dtype=torch.float64)
        self._sizes = torch.zeros(len(_NAMES), dtype=torch.float64)
        self._tokens = 0

    def means(self, batch: RoutingBatch) -> tuple[Tensor, Tensor]:
        """Mean weights, in the place of pbar, and the share of picks."""
        return batch.fbar("topk_score"), batch.fbar(self.f_mode)

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        overlaps = [overlap for overlap in self.overlaps if overlap.latest is not None]
        sites = [layer for overlap in overlaps for layer in overlap.layers]
        values = {"aux": self.aux(batch), "ortho": self.ortho(batch), "variance": self.variance(batch)}
        wanted = [getattr(self.config, name).coef for name in _NAMES]
        if self.config.calibrate:
            if not self._coefficients.any():
                tokens = int(batch.tokens)
                sizes = torch.stack([values[name].mean() for name in _NAMES])
                self._sizes += sizes.detach().double().cpu() * tokens
                self._tokens += tokens
            used = self._coefficients.tolist()
        else:
            used = wanted
        return {
            name: self.term(values[name], now, sites if name == "ortho" else None)
            for name, now, coef in zip(_NAMES, used, wanted, strict=True)
            if coef != 0
        }

    def aux(self, batch: RoutingBatch) -> Tensor:
        """N sum_i pbar_i fbar_i of each router, `[G]`."""
        _, point = self.statistics.point()
        load = batch.fbar(self.f_mode).detach() if point is None else point
        return self.n_experts * losses.balance(batch.pbar, load)

    def ortho(self, batch: RoutingBatch) -> Tensor:
        """L_o of each site, averaged over tokens: `[sites]`."""
        parts = [(overlap.latest, overlap.encoder) for overlap in self.overlaps if overlap.latest is not None]
        return batch.average(parts)

    def variance(self, batch: RoutingBatch) -> Tensor:
        """-sum_i Var(s_i) over tokens of each router's weights s, `[G]`."""
        point, _ = self.statistics.point()
        squares = batch.mean(lambda record: (record.w / record.w.sum(-1, keepdim=True)).square().sum(-1))
        of_mean = expand_at(lambda mean: mean.square().sum(-1), batch.fbar("topk_score"), point)
        return of_mean - squares

    def end_window(self) -> None:
        """See `AuxiliaryLoss.end_window`; the first one calibrates."""
        super().end_window()
        if self._tokens:
            sizes = (self._sizes / self._tokens).abs()
            wanted = torch.tensor([getattr(self.config, name).coef for name in _NAMES], dtype=torch.float64)
            # A term that is 0 at the start has no size to go by.
            ratio = torch.where(sizes > 1e-12, wanted / sizes.clamp(min=1e-12), wanted)
            self._coefficients = torch.where(wanted > 0, 10 ** ratio.log10().round(), 0.0)
            self._tokens = 0

    def state(self) -> dict[str, Tensor]:
        """See `AuxiliaryLoss.state`."""
        return super().state() | {"statistics.coefficients": self._coefficients.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `AuxiliaryLoss.load_state`."""
        super().load_state(state)
        self._coefficients = state["statistics.coefficients"].clone()
        self._sizes.zero_()
        self._tokens = 0


class Aesl(LinearlyRouted):
    """LoRA-Mixer's layer with AESL's balance, orthogonality and variance losses."""

    Config: ClassVar[type[MethodConfig]] = AeslConfig
    source_rates: ClassVar[Mapping[str, float]] = {"router.lr": 1e-4}
    version: ClassVar[int] = 2  # 1 averaged the losses over routers
    config: AeslConfig

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        overlaps: list[Overlaps] = []

        def watch(sites: Sequence[RoutedLinear], source: WeightSource) -> Overlaps:
            overlaps.append(Overlaps(sites, source, context, self.config.loss.ortho_weighted))
            return overlaps[-1]

        def loss(n_routers: int, n_experts: int, like: Tensor) -> AeslLosses:
            return AeslLosses(n_routers, n_experts, self.config.loss, like, overlaps)

        return replace(super().routing(context, pool, seed), watch=watch, loss=loss)
