"""Dropout of experts that are trained together: a mask for each, as their authors have it, or one for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.agreements import agreed
from methods.routing.factors import shrunk
from methods.tiny import tiny_llama

P = 0.4
N = 4


def wide(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def of(name: str, masks: str, installed: Any, shake: Any) -> Any:
    """A method with dropout in training mode, its parameters away from their initial values."""
    model = tiny_llama(dtype=torch.float64)
    overrides = {"lora.dropout": P, "dropout_masks": masks, "lora.targets": ["q_proj"]}
    if name in ("mixlora", "gmoe-graph"):
        overrides["route.dense"] = True
    composed = installed(name, overrides, model=model)
    shake(composed, "routers", "experts")
    model.train()
    return composed


def masks_of(x: Tensor, masks: str) -> list[Tensor]:
    """What each expert's A is given, drawn in order."""
    if masks == "site":
        return [F.dropout(x, P)] * N
    return [F.dropout(x, P) for _ in range(N)]


@pytest.mark.parametrize("masks", ["expert", "site"])
@pytest.mark.parametrize("name", ["loramoe", "hydralora"])
def test_of_linear_layers(name: str, masks: str, installed: Any, shake: Any) -> None:
    """`W x + sum_n p_n s B_n A_n (mask_n x)`, written out; A is common in HydraLoRA, its input is not."""
    composed = of(name, masks, installed, shake)
    path = "model.layers.0.self_attn.q_proj"
    site: Any = composed.sites[path]
    x = wide(2, 3, 32)
    p = (x @ composed.groups()["routers"][f"routers.{path}.weight"].T).softmax(-1)
    torch.manual_seed(0)
    found = site(x)
    torch.manual_seed(0)
    expected = site.base(x)
    for n, seen in enumerate(masks_of(x, masks)):
        own = composed.expert(composed.experts[n]).sites[path]
        expected = expected + p[..., n : n + 1] * own.scale * (seen @ own.A.T @ own.B.T)
    both = {"loramoe": agreed("loramoe", "Ablustrund/LoRAMoE"), "hydralora": agreed("hydralora", "Clin0212/HydraLoRA")}
    assert (found - expected).abs().max() < both[name].output


@pytest.mark.parametrize("masks", ["expert", "site"])
@pytest.mark.parametrize("name", ["mixlora", "gmoe-graph"])
def test_of_blocks(name: str, masks: str, installed: Any, shake: Any) -> None:
    """Masks on the inputs of gate, up and down of each expert; down's inputs differ, hence its masks do."""
    composed = of(name, masks, installed, shake)
    path = "model.layers.0.mlp"
    block: Any = composed.sites[path]
    x, base = wide(2, 3, 32), block.base
    with torch.no_grad():
        # Dense: places are experts in falling order of weight.
        weights, order = block.router.weights(x, x.new_empty(2, 3, 1, N, 0)).squeeze(-2).sort(descending=True)
    torch.manual_seed(0)
    found = block(x)
    torch.manual_seed(0)
    experts = [composed.expert(name) for name in composed.experts]

    def update(n: int, part: str, seen: Tensor) -> Tensor:
        own = experts[n].sites[f"{path}.{part}"]
        out: Tensor = own.scale * (seen @ own.A.T @ own.B.T)
        return out

    gates = [base.gate_proj(x) + update(n, "gate_proj", seen) for n, seen in enumerate(masks_of(x, masks))]
    ups = [base.up_proj(x) + update(n, "up_proj", seen) for n, seen in enumerate(masks_of(x, masks))]
    z = torch.stack([base.act_fn(gate) * up for gate, up in zip(gates, ups, strict=True)], -2)
    placed = z.gather(-2, order.unsqueeze(-1).expand(-1, -1, -1, z.shape[-1]))
    dropped = F.dropout(placed * weights.unsqueeze(-1), P)
    expected = torch.zeros_like(x)
    for place in range(N):
        expected = expected + weights[..., place, None] * base.down_proj(placed[..., place, :])
        for n in range(N):
            chosen = (order[..., place] == n).unsqueeze(-1)
            expected = expected + chosen * update(n, "down_proj", dropped[..., place, :])
    assert (found - expected).abs().max() < 1e-12


def test_masks_of_experts_differ() -> None:
    """With equal A, experts with masks of their own see unequal inputs; with one for all, equal ones; without, x."""
    x, A = wide(50, 8), wide(3, 8)
    h = shrunk(x, A.repeat(2, 1), 2, P, each=True)
    assert not torch.equal(h[:, :3], h[:, 3:])
    h = shrunk(x, A.repeat(2, 1), 2, P, each=False)
    assert torch.equal(h[:, :3], h[:, 3:])
    assert torch.equal(shrunk(x, A.repeat(2, 1), 2, 0.0, each=True), F.linear(x, A.repeat(2, 1)))


@pytest.mark.parametrize("name", ["mixlora", "gmoe-graph", "loramoe", "hydralora", "ds-moe-dense"])
def test_each_has_its_own_unless_told(name: str, resolved: Any) -> None:
    assert resolved(name).config.masks_each
    assert not resolved(name, {"dropout_masks": "site"}).config.masks_each
