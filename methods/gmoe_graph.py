"""GMoE (Bai et al. 2024, arXiv 2412.16216): a graph network over token and experts routes feed-forward LoRA experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from methods.gmoe import GmoeLossConfig, GmoeLosses, gmoe_losses, with_loss_rate
from methods.mixlora import BlockConfig, BlockMethod
from methods.routing import MethodConfig, Provider, TrainingPhase, generator, weight_like, wide_linear, wide_parameter


class GraphConfig(MethodConfig):
    """The graph router of a block."""

    width: PositiveInt = Field(default=256, description="Width g of the nodes.")
    layers: PositiveInt = Field(default=2, description="Graph-convolution layers.")
    density: float = Field(default=0.1, ge=0, le=1, description="Share of the pairs of experts that are linked.")
    self_loop: float = Field(
        default=2.0, gt=0, description="Weight of a node's link to itself; at 1 linked experts can tie for every token."
    )
    projections: Literal["silu", "linear"] = Field(
        default="silu", description="What follows the projections of token and features: SiLU, as released, or nothing."
    )
    convolutions: Literal["relu", "silu"] = Field(
        default="relu", description="What follows a graph convolution: the paper's ReLU, or SiLU, as released."
    )
    gain: float = Field(default=1.0, gt=0, description="Gain of the Xavier-uniform initial weights.")
    lr: float | None = Field(default=None, gt=0, description="Learning rate; null takes that of the experts.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay.")


class GmoeGraphConfig(BlockConfig):
    """Configuration of `gmoe-graph`."""

    router: GraphConfig = GraphConfig()
    loss: GmoeLossConfig = GmoeLossConfig()


class GraphRouter(Provider):
    """Logits `u . h_i` of the experts' nodes after graph convolutions over the token's node and theirs.

    The token's node is SiLU(P x), expert i's is SiLU(Q X_i) with constant random features X_i. The token is linked to
    every expert, and the experts whose features are most alike to each other, up to the density. One layer is

        H' = ReLU(D^-1/2 (A + c I) D^-1/2 H Theta).

    With c = 1 two experts that are linked to each other and else to the same nodes have equal rows in A + I, hence
    equal logits for every token, whatever is learned; in a full graph all have. With c = 2 no rows are equal.

    Features and links are constants that follow from (seed, name), so weights depend on the token alone.
    """

    packs = True

    def __init__(self, n_experts: int, d_in: int, config: GraphConfig, *, name: str, seed: int, like: Tensor) -> None:
        super().__init__()
        g = config.width
        self._project = F.silu if config.projections == "silu" else nn.Identity()
        self._convolve = F.silu if config.convolutions == "silu" else F.relu

        def matrix(part: str, rows: int, columns: int) -> nn.Parameter:
            bound = config.gain * (6 / (rows + columns)) ** 0.5
            draw = torch.empty(rows, columns).uniform_(-bound, bound, generator=generator("graph", part, name, seed))
            return wide_parameter(draw, like)

        self.token = matrix("token", g, d_in)
        self.expert = matrix("expert", g, d_in)
        self.layers = nn.ParameterList(matrix(f"layer {n}", g, g) for n in range(config.layers))
        self.score = matrix("score", 1, g)
        features = torch.randn(n_experts, d_in, generator=generator("graph", "features", name, seed))
        self.register_buffer("features", wide_parameter(features, like).detach(), persistent=False)
        links = propagation(features, config.density, config.self_loop)
        self.register_buffer("links", wide_parameter(links, like).detach(), persistent=False)
        self.features: Tensor
        self.links: Tensor

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """See `Provider.forward`; `h` is not looked at."""
        token = self._project(wide_linear(x, self.token)).unsqueeze(-2)
        experts = self._project(wide_linear(self.features, self.expert))
        nodes = torch.cat([token, experts.expand(*token.shape[:-2], *experts.shape)], -2)
        for theta in self.layers:
            nodes = self._convolve(self.links @ wide_linear(nodes, theta))
        return wide_linear(nodes[..., 1:, :], self.score).squeeze(-1)


def propagation(features: Tensor, density: float, self_loop: float) -> Tensor:
    """D^-1/2 (A + c I) D^-1/2 of the graph of a token (node 0) and N experts, `[N + 1, N + 1]` in float64.

    The token is linked to all; of the pairs of experts, the share `density` with the largest cosine of features
    `[N, d]`.
    """
    n_experts = len(features)
    unit = nn.functional.normalize(features.double(), dim=-1)
    rows, columns = torch.triu_indices(n_experts, n_experts, 1)
    likeness = (unit @ unit.T)[rows, columns]
    chosen = likeness.argsort(descending=True)[: round(density * len(rows))]
    adjacency = torch.zeros(n_experts + 1, n_experts + 1, dtype=unit.dtype)
    adjacency[0] = adjacency[:, 0] = 1
    adjacency[rows[chosen] + 1, columns[chosen] + 1] = adjacency[columns[chosen] + 1, rows[chosen] + 1] = 1
    adjacency.fill_diagonal_(self_loop)
    scale = adjacency.sum(-1).rsqrt()
    return scale[:, None] * adjacency * scale


class GmoeGraph(BlockMethod):
    """MixLoRA's places and forward, a graph router per block, Poisson and normal losses."""

    version: ClassVar[int] = 2  # 1 had linear projections, and one dropout mask for all experts
    Config: ClassVar[type[MethodConfig]] = GmoeGraphConfig
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 2e-4}
    config: GmoeGraphConfig

    def pads(self) -> bool:
        """See `Method.pads`: the released losses count padding."""
        return super().pads() or self.config.loss.released

    def provider(self, name: str, linear: nn.Linear, seed: int) -> Provider:
        """See `BlockMethod.provider`."""
        return GraphRouter(
            len(self.names()), linear.in_features, self.config.router, name=name, seed=seed, like=weight_like(linear)
        )

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> GmoeLosses:
        """See `BlockMethod.loss`."""
        return gmoe_losses(self.config.loss, n_routers, n_experts, like)

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        return with_loss_rate(super().phase(), self.config.loss.lr)
