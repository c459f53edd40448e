"""MoLE (Wu et al. 2024, arXiv 2404.13628): gates that look at the experts' own outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from methods.base import Level
from methods.routing import (
    DENSE,
    AuxiliaryLoss,
    Bank,
    Expert,
    LossTerm,
    MethodConfig,
    Provider,
    RoutedComposed,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingBatch,
    RoutingContext,
    Side,
    StatisticsConfig,
    TrainingPhase,
    Unsupported,
    expand_at,
    generator,
    negative_log_product,
    refuse_over_routers,
    wide,
    wide_linear,
    wide_parameter,
)

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
    per_gate: bool = Field(default=False, description="One q per gate, instead of one q over all gates.")

    @model_validator(mode="after")
    def _one_q_is_no_sum(self) -> Self:
        if not self.per_gate:
            refuse_over_routers(self, "loss.per_gate=false takes one q over all gates")
        return self


class MoleConfig(MethodConfig):
    """Configuration of `mole`."""

    gate: GateConfig = GateConfig()
    loss: MoleLossConfig = MoleLossConfig()
    masked: tuple[str, ...] = Field(
        default=(), description="Experts left out at inference; the others' weights are renormalised."
    )


class MoleGate(Provider):
    """Parameters of one gate, and constants of the frozen experts at its site; `MoleBank` computes with them.

    Attributes:
        scales: `[N, 1]`.
        B: scaled B of all experts, `[N, d_out, r]`; centred over d_out for `ln`.
        gram: `[N, r, r]`, see `MoleBank`.
    """

    def __init__(
        self,
        config: GateConfig,
        site: RoutedLinear,
        context: Side,
        *,
        name: str,
        seed: int,
        masked: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.packs = config.scope == "token"
        self.context = context
        self.masked = list(masked)
        self.n_experts = len(site.factors)
        shape = {
            "blockdiag": (self.n_experts, site.out_features),
            "full": (self.n_experts, self.n_experts * site.out_features),
            "input": (self.n_experts, site.in_features),
            "bottleneck": (self.n_experts, self.n_experts * site.rank),
        }[config.form]
        draw = torch.randn(shape, generator=generator("mole", name, seed)) * config.init_std
        self.weight = wide_parameter(draw, site.weight)
        log_tau = torch.tensor(math.log(config.tau), dtype=torch.float64)
        self.log_tau = wide_parameter(log_tau, site.weight) if config.tau_learn else None
        self._prepare(site)

    def _prepare(self, site: RoutedLinear) -> None:
        like = self.weight
        self.B = like.new_zeros(self.n_experts, site.out_features, site.rank)
        self.scales = like.new_zeros(self.n_experts, 1)
        for index, factor in enumerate(site.factors):
            if factor is not None:
                self.B[index, :, : factor.B.shape[1]] = factor.B.to(like.device, like.dtype) * factor.scale
                self.scales[index] = factor.scale
        if self.config.norm == "ln":
            self.B -= self.B.mean(1, keepdim=True)
        self.gram = self.B.transpose(1, 2) @ self.B / (site.out_features if self.config.norm == "ln" else 1)

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return MoleBank(providers)

    def readout(self, initial: bool) -> Tensor:
        """What is multiplied with the shrunk inputs: `[N, r]` for `blockdiag`, `[N, N, r]` (gate, expert) otherwise."""
        weight = self.value("weight", initial)
        if self.config.form == "blockdiag":
            return torch.einsum("nor,no->nr", self.B, weight)
        gates = weight.unflatten(-1, (self.n_experts, -1))
        return gates * self.scales if self.config.form == "bottleneck" else torch.einsum("nor,mno->mnr", self.B, gates)


class MoleBank(Bank):
    """Logits `eps / tau` over experts from z_i = norm(Delta_i), for K gates at once.

    `full`: eps = W [z_1; ...; z_N]; `blockdiag`: eps_i = <v_i, z_i>; `input`: eps = R x; `bottleneck`:
    eps = W [s_1 A_1 x; ...; s_N A_N x].

    The outputs Delta_i are never formed. With h_i = A_i x and C the centring matrix, the layer norm of Delta_i has
    variance h_i^T G_i h_i with G_i = s_i^2 B_i^T C B_i / d_out, and any linear function <v, z_i> is
    (s_i B_i^T C v) . h_i over its root: r x r work per token and expert instead of r x d_out.
    """

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.config: GateConfig = providers[0].config
        self.context: Side = providers[0].context
        self.n_rows = len(providers) * providers[0].n_experts if self.config.form == "input" else 0
        self._readouts: dict[bool, tuple[tuple[int, ...], Tensor]] = {}
        self._gram: Tensor | None = None
        self._prompt: dict[bool, Tensor] = {}

    def rows(self, initial: bool = False) -> Tensor:
        """See `Bank.rows`."""
        return torch.cat([gate.value("weight", initial) for gate in self.providers])

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`."""
        if self.config.form == "input":
            products = wide_linear(x, self.rows(initial)) if products is None else products
            logits = products.unflatten(-1, (len(self.providers), -1))
        else:
            logits = self._from_updates(wide(h[..., : len(self.providers), :, :]), initial)
        if self.config.scope == "prompt_mean":
            logits = self._prompt_mean(logits, initial)
        if self.config.tau_learn:
            logits = logits / torch.stack([gate.value("log_tau", initial) for gate in self.providers]).exp()[:, None]
        elif self.config.tau != 1.0:
            logits = logits / self.config.tau
        masked = self.providers[0].masked
        if masked and not self.context.training:
            hidden = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
            hidden[masked] = True
            # Far below everything, and finite: an infinite logit has no entropy.
            logits = logits.masked_fill(hidden, -1e4)
        return logits

    def _from_updates(self, h: Tensor, initial: bool) -> Tensor:
        """eps `[..., K, N]` of shrunk inputs `[..., K, N, r]`."""
        readout = self._readout(initial, h.shape[-1])
        if self.config.form == "bottleneck":
            return torch.einsum("...knr,kmnr->...km", h, readout)
        if self._gram is None:
            self._gram = torch.stack([_pad(_pad(g.gram, h.shape[-1]).mT, h.shape[-1]).mT for g in self.providers])
        squared = (torch.einsum("...knr,knrs->...kns", h, self._gram) * h).sum(-1)
        if self.config.norm == "l2":
            squared = squared.sum(-1, keepdim=True)
        inverse = (squared.clamp(min=0) + _EPS).rsqrt()
        if self.config.form == "blockdiag":
            return (h * readout).sum(-1) * inverse
        return torch.einsum("...knr,kmnr->...km", h * inverse.unsqueeze(-1), readout)

    def _readout(self, initial: bool, rank: int) -> Tensor:
        """Readouts of the K gates padded to the group's rank; kept between passes while nothing is trained."""
        version = () if initial else self.version()
        held = self._readouts.get(initial)
        if not torch.is_grad_enabled() and held is not None and held[0] == version:
            return held[1]
        stacked = torch.stack([_pad(gate.readout(initial), rank) for gate in self.providers])
        if not torch.is_grad_enabled():
            self._readouts[initial] = (version, stacked)
        return stacked

    def _prompt_mean(self, logits: Tensor, initial: bool) -> Tensor:
        """Mean of the logits, which are linear in z, over the prompt's tokens; kept while a cached text grows.

        Raises:
            RuntimeError: a pass continues a cache that no prompt pass has filled.
        """
        if self.context.past_length:
            held = self._prompt.get(initial)
            if held is None or held.shape[0] != logits.shape[0]:
                raise RuntimeError("prompt_mean weights belong to the sequences of the prompt's pass: pass it first.")
            return held.expand_as(logits)
        prompt = self.context.prompt(logits.shape[:2], logits.device).to(logits.dtype)[..., None, None]
        mean = (logits * prompt).sum(1, keepdim=True) / prompt.sum(1, keepdim=True).clamp(min=1)
        if not torch.is_grad_enabled():
            self._prompt[initial] = mean
        return mean.expand_as(logits)


def _pad(matrix: Tensor, rank: int) -> Tensor:
    """Zero columns up to the rank that a group of sites is padded to."""
    missing = rank - matrix.shape[-1]
    return nn.functional.pad(matrix, (0, missing)) if missing else matrix


class MoleBalance(AuxiliaryLoss):
    """MoLE's L_bal; at uniform q it is N ln N with zero gradient, so it is a barrier rather than a pull."""

    packs = True
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
        return {"balance": self.term(expand_at(negative_log_product, q, point), self.config.balance)}


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

    def routes(self) -> Level | None:
        """See `Method.routes`."""
        return "token" if self.config.gate.scope == "token" else "example"

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
            return MoleGate(config.gate, site, context.side(name), name=name, seed=seed, masked=masked)

        def loss(n_routers: int, n_experts: int, like: Tensor) -> MoleBalance:
            return MoleBalance(n_routers, n_experts, config.loss, like)

        return Routing(provider, DENSE, loss=loss)

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        gate = self.config.gate
        lr = {} if gate.lr is None else {"routers": gate.lr}
        return TrainingPhase("gates", "routing", ("routers",), lr=lr, weight_decay=gate.weight_decay)
