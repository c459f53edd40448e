"""Feed-forward blocks with LoRA experts that are mixed at the block's output (MixLoRA, arXiv 2404.15159)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import SiteFactors
from methods.routing.factors import TrainableFactors
from methods.routing.providers import Provider
from methods.routing.router import Router

PARTS = ("gate_proj", "up_proj", "down_proj")


def gated_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Blocks of the form `down_proj(act_fn(gate_proj(x)) * up_proj(x))` by module path, in the model's order."""
    return {
        path: module
        for path, module in model.named_modules()
        if all(isinstance(getattr(module, part, None), nn.Linear) for part in PARTS) and hasattr(module, "act_fn")
    }


class RoutedBlock(nn.Module):
    """A gated feed-forward block with N experts. Shapes: input and output `[b, t, d]`.

        E_n(x) = (W2 + D2_n) z_n(x),   z_n(x) = act((W1 + D1_n) x) * (W3 + D3_n) x,   D = s B A
        y = sum_n w_n(x) E_n(x)

    over the k experts of each token. W1 x and W3 x are computed once, and since W2 is linear, so is W2 sum_n w_n z_n:
    no weight of the base is copied and its products cost what they cost without experts. The factors of all experts
    are one matrix; each of a token's k places keeps its own expert's part of the shrunk input.
    """

    trainable, factors = None, ()  # what a handle counts of single sites

    def __init__(
        self,
        name: str,
        base: Any,
        experts: Mapping[str, Sequence[SiteFactors]],
        provider: Provider,
        router: Router,
        *,
        dropout: float = 0.0,
    ) -> None:
        """Args:
        name: module path of the block.
        base: the frozen block, untouched.
        experts: factors of all experts by part (`gate_proj`, `up_proj`, `down_proj`).
        provider: the block's router, registered here so that its parameters belong to the model.
        router: gives the weights.
        dropout: on the input of each A in training, one mask for all experts.
        """
        super().__init__()
        self.name = name
        self.base = base
        self.provider = provider
        self.dropout = dropout
        self.parts = nn.ModuleDict(
            {part: TrainableFactors(experts[part], getattr(base, part).weight) for part in PARTS}
        )
        self.n_experts = len(experts[PARTS[0]])
        # Inside a tuple: not a module, and shared with the handle.
        self._router = (router,)
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        """A frozen weight, for code that looks at its type or device."""
        weight: Tensor = self.base.gate_proj.weight
        return weight

    def trained(self, experts: Sequence[str]) -> dict[str, nn.Parameter]:
        """Parameters of the experts by name."""
        return {
            f"experts.{expert}.{self.name}.{part}.{side}": parameter
            for part, factors in self._parts()
            for index, expert in enumerate(experts)
            for side, parameter in (("A", factors.A[index]), ("B", factors.B[index]))
        }

    def expert(self, index: int) -> dict[str, SiteFactors]:
        """Copies of one expert's factors by site."""
        found = {f"{self.name}.{part}": factors.expert(index) for part, factors in self._parts()}
        return {path: factors for path, factors in found.items() if factors is not None}

    def forward(self, x: Tensor) -> Tensor:
        """The mixed output."""
        base = self.base
        gate, up = base.gate_proj(x), base.up_proj(x)
        (router,) = self._router
        w = router.weights(x, x.new_empty(*x.shape[:-1], 1, self.n_experts, 0)).squeeze(-2)
        kept, index = w.topk(router.sparsifier.most(self.n_experts, router.context.training), -1)
        kept = kept.to(x.dtype).unsqueeze(-1)
        chosen = F.one_hot(index, self.n_experts).to(x.dtype).unsqueeze(-1)

        z = base.act_fn(gate.unsqueeze(-2) + self._update("gate_proj", x, chosen))
        z = z * (up.unsqueeze(-2) + self._update("up_proj", x, chosen))
        plain = base.act_fn(gate) * up
        # Differences from the base's own z are weighted, not z itself: weights that are rounded do not scale the base.
        share = ((z - plain.unsqueeze(-2)) * kept).sum(-2)
        mass = None if router.sparsifier.renorm == "sum" else kept.sum(-2)
        y: Tensor = base.down_proj(share + (plain if mass is None else plain * mass))
        if mass is not None and base.down_proj.bias is not None:
            y = y + (mass - 1) * base.down_proj.bias
        A, B = self._stacked("down_proj", x.dtype)
        h = F.linear(self._dropped(z * kept), A).unflatten(-1, (self.n_experts, -1))
        return y + F.linear((h * chosen).sum(-3).flatten(-2), B)

    def _update(self, part: str, x: Tensor, chosen: Tensor) -> Tensor:
        """`s B_n A_n x` of the expert n at each place, `[b, t, k, ff]`."""
        A, B = self._stacked(part, x.dtype)
        h = F.linear(self._dropped(x), A).unflatten(-1, (self.n_experts, -1)).unsqueeze(-3)
        return F.linear((h * chosen).flatten(-2), B)

    def _stacked(self, part: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        factors: Any = self.parts[part]
        stacked: tuple[Tensor, Tensor] = factors.stacked(range(self.n_experts), dtype)
        return stacked

    def _parts(self) -> list[tuple[str, Any]]:
        return [(part, self.parts[part]) for part in PARTS]

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
