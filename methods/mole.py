"""MoLE (Wu et al. 2024, arXiv 2404.13628): gates that look at the experts' own outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods.base import Expert, LossTerm, MethodConfig, TrainingPhase, Unsupported
from methods.routing.auxiliary import AuxiliaryLoss
from methods.routing.build import Routing
from methods.routing.composed import RoutedComposed
from methods.routing.config import StatisticsConfig
from methods.routing.context import RoutingContext
from methods.routing.linear import RoutedLinear
from methods.routing.losses import negative_log_product
from methods.routing.method import RoutedMethod
from methods.routing.providers import Provider, wide, wide_linear, wide_parameter
from methods.routing.sparsify import DENSE
from methods.routing.statistics import RoutingBatch, expand_at
from methods.seeding import generator

GateForm = Literal["blockdiag", "full", "input", "bottleneck"]
_EPS = 1e-5


class GateConfig(MethodConfig):
    """A gate over the experts' outputs Delta_i = s_i B_i A_i x, normalised to z_i."""

    form: GateForm = Field(default="blockdiag", description="What the logits are a linear function of.")
    norm: Literal["ln", "l2"] = Field(default="ln", description="Layer norm of each Delta_i, or one length for all.")
    scope: Literal["token", "prompt_mean"] = Field(default="token", description="Weights per token, or per prompt.")
    init_std: float = Field(default=0.02, ge=0, description="Standard deviation of the initial gate.")
    tau: float = Field(default=1.0, gt=0, description="Initial temperature.")
    tau_learn: bool = Field(default=True, description="Whether the temperature is trained, as exp(rho).")
    lr: float | None = Field(default=None, gt=0, description="Learning rate; null takes the comparison's.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay of the gates.")


class MoleLossConfig(StatisticsConfig):
    """L_bal = -sum_i log q_i, q_i the mean weight of expert i."""

    balance: float = Field(default=0.5, ge=0, description="Coefficient of L_bal.")
    per_gate: bool = Field(default=False, description="One q per gate, averaged, instead of one q over all gates.")


class MoleConfig(MethodConfig):
    """Configuration of `mole`."""

    gate: GateConfig = GateConfig()
    loss: MoleLossConfig = MoleLossConfig()
    masked: tuple[str, ...] = Field(
        default=(), description="Experts left out at inference; the others' weights are renormalised."
    )


class MoleGate(Provider):
    """Logits `eps / tau` over experts from z_i = norm(Delta_i).

    `full`: eps = W [z_1; ...; z_N]; `blockdiag`: eps_i = <v_i, z_i>; `input`: eps = R x; `bottleneck`:
    eps = W [s_1 A_1 x; ...; s_N A_N x].

    The outputs Delta_i are never materialised. With h_i = A_i x and C the centring matrix, the layer norm of Delta_i
    has variance h_i^T G_i h_i with G_i = s_i^2 B_i^T C B_i / d_out, and any linear function <v, z_i> is
    (s_i B_i^T C v) . h_i over its root: r x r work per token and expert instead of r x d_out.
    """

    trainable = True

    def __init__(
        self,
        config: GateConfig,
        site: RoutedLinear,
        context: RoutingContext,
        *,
        name: str,
        seed: int,
        masked: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.context = context
        self.name = name
        self.n_experts = len(site.factors)
        shape = {
            "blockdiag": (self.n_experts, site.out_features),
            "full": (self.n_experts, self.n_experts * site.out_features),
            "input": (self.n_experts, site.in_features),
            "bottleneck": (self.n_experts, self.n_experts * site.rank),
        }[config.form]
        draw = torch.randn(shape, generator=generator("mole", name, seed)) * config.init_std
        self.weight = wide_parameter(draw, site.weight)
        log_tau = wide_parameter(torch.tensor(math.log(config.tau), dtype=torch.float64), site.weight)
        self.log_tau = log_tau if config.tau_learn else None
        self._tau = config.tau
        self._masked = list(masked)
        self._frozen: Tensor | None = None
        self._frozen_initial: Tensor | None = None
        self._prepare(site)
        self.remember()

    def _prepare(self, site: RoutedLinear) -> None:
        """Constants of frozen experts: scales `[N, 1]`, B `[N, d_out, r]` (centred for `ln`), Gram `[N, r, r]`."""
        like = self.weight
        B = like.new_zeros(self.n_experts, site.out_features, site.rank)
        self._scales = like.new_zeros(self.n_experts, 1)
        for index, factor in enumerate(site.factors):
            if factor is not None:
                B[index, :, : factor.B.shape[1]] = factor.B.to(like.device, like.dtype) * factor.scale
                self._scales[index] = factor.scale
        if self.config.norm == "ln":
            B = B - B.mean(1, keepdim=True)
        self._B = B if self.config.form in ("blockdiag", "full") else None
        self._gram = B.transpose(1, 2) @ B / (site.out_features if self.config.norm == "ln" else 1)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """See `Provider.forward`."""
        logits = self._logits(x, h)
        if self.config.scope == "prompt_mean":
            logits = self._prompt_mean(logits)
        logits = logits / (self._tau if self.log_tau is None else self.log_tau.exp())
        if self._masked and not self.context.training:
            hidden = torch.zeros(self.n_experts, dtype=torch.bool, device=logits.device)
            hidden[self._masked] = True
            # Far below everything, and finite: an infinite logit has no entropy.
            logits = logits.masked_fill(hidden, -1e4)
        return logits

    def initial_logits(self, x: Tensor, h: Tensor) -> Tensor | None:
        """See `Provider.initial_logits`; the untrained gate freezes weights of its own on a prompt."""
        trained, self._frozen = self._frozen, self._frozen_initial
        try:
            return super().initial_logits(x, h)
        finally:
            self._frozen_initial, self._frozen = self._frozen, trained

    def _logits(self, x: Tensor, h: Tensor) -> Tensor:
        if self.config.form == "input":
            return wide_linear(x, self.weight)
        h = wide(h)
        rank = h.shape[-1]
        if self.config.form == "bottleneck":
            own = self._pad(self.weight.unflatten(-1, (self.n_experts, -1)), rank)
            return torch.einsum("...nr,mnr->...m", h * self._scales, own)
        assert self._B is not None
        gram = self._pad(self._pad(self._gram, rank).transpose(1, 2), rank)
        squared = torch.einsum("...nr,nrs,...ns->...n", h, gram, h)
        if self.config.norm == "l2":
            squared = squared.sum(-1, keepdim=True)
        inverse = (squared.clamp(min=0) + _EPS).rsqrt()
        if self.config.form == "blockdiag":
            own = self._pad(torch.einsum("nor,no->nr", self._B, self.weight), rank)
            return (h * own).sum(-1) * inverse
        gates = self.weight.unflatten(-1, (self.n_experts, -1))
        every = self._pad(torch.einsum("nor,mno->mnr", self._B, gates), rank)
        return torch.einsum("...nr,mnr->...m", h * inverse.unsqueeze(-1), every)

    @staticmethod
    def _pad(matrix: Tensor, rank: int) -> Tensor:
        """Zero columns up to the rank that a group of sites is padded to."""
        return nn.functional.pad(matrix, (0, rank - matrix.shape[-1]))

    def _prompt_mean(self, logits: Tensor) -> Tensor:
        """Mean of the logits, which are linear in z, over the prompt's tokens; kept while a cached text grows.

        Raises:
            RuntimeError: a pass continues a cache that no prompt pass has filled.
        """
        if self.context.past_length:
            if self._frozen is None or self._frozen.shape[0] != logits.shape[0]:
                raise RuntimeError("prompt_mean weights belong to the sequences of the prompt's pass: pass it first.")
            return self._frozen.expand_as(logits)
        prompt = self.context.prompt(logits.shape[:2], logits.device).to(logits.dtype).unsqueeze(-1)
        mean = (logits * prompt).sum(1, keepdim=True) / prompt.sum(1, keepdim=True).clamp(min=1)
        if not torch.is_grad_enabled():
            self._frozen = mean
        return mean.expand_as(logits)


class MoleBalance(AuxiliaryLoss):
    """MoLE's L_bal; at uniform q it is N ln N with zero gradient, so it is a barrier rather than a pull."""

    f_mode = "mean_prob"
    config: MoleLossConfig

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        if self.config.balance == 0:
            return {}
        q, (point, _) = batch.pbar, self.statistics.point()
        if not self.config.per_gate:
            q = q.mean(0)
            point = None if point is None else point.mean(0)
        return {"balance": self.term(expand_at(negative_log_product, q, point).mean(), self.config.balance)}


class Mole(RoutedMethod):
    """One gate per projection over the outputs of frozen experts; dense."""

    Config: ClassVar[type[MethodConfig]] = MoleConfig
    config: MoleConfig

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        if unknown := [name for name in self.config.masked if name not in pool]:
            raise Unsupported(f"The masked expert '{unknown[0]}' is not in the pool: name one of {', '.join(pool)}.")
        if set(self.config.masked) == set(pool):
            raise Unsupported("All experts of the pool are masked: leave at least one.")

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RoutedComposed:
        """See `Method.install`."""
        composed = super().install(model, experts, seed=seed)
        composed.kv_cache = self.config.gate.scope == "token"
        return composed

    def routing(self, context: RoutingContext, pool: Sequence[str], seed: int) -> Routing:
        """See `RoutedMethod.routing`."""
        config = self.config
        masked = [index for index, name in enumerate(pool) if name in config.masked]

        def provider(name: str, site: RoutedLinear) -> MoleGate:
            return MoleGate(config.gate, site, context, name=name, seed=seed, masked=masked)

        def loss(n_routers: int, n_experts: int, like: Tensor) -> MoleBalance:
            return MoleBalance(n_routers, n_experts, config.loss, like)

        return Routing(provider, DENSE, loss=loss)

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        gate = self.config.gate
        lr = {} if gate.lr is None else {"routers": gate.lr}
        return TrainingPhase("gates", "routing", ("routers",), lr=lr, weight_decay=gate.weight_decay)
