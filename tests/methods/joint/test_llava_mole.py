"""LLaVA-MoLE's form: one whole expert of a block for each token, and a router that learns from the task."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods import conformance
from methods.tiny import tiny_batch, window_gradient

PATH = "model.layers.0.mlp"


def of(installed: Any, shake: Any, overrides: dict[str, Any] | None = None) -> Any:
    composed = installed("llava-mole", overrides)
    shake(composed, "experts", std=0.3)
    shake(composed, "routers", std=0.5)
    return composed


def loop(composed: Any, x: Tensor, scaled: bool) -> Tensor:
    """`E(x) + w (E_k(x) - E(x))`, token by token, with k and p of the block's own router."""
    block = composed.sites[PATH]
    base = block.base
    p = (x @ composed.groups()["routers"][f"routers.{PATH}.weight"].T).softmax(-1)
    experts = [composed.expert(name).sites for name in composed.experts]

    def whole(n: int, seen: Tensor) -> Tensor:
        def project(part: str, given: Tensor) -> Tensor:
            own = experts[n][f"{PATH}.{part}"]
            out: Tensor = getattr(base, part)(given) + own.scale * (given @ own.A.T @ own.B.T)
            return out

        return project("down_proj", base.act_fn(project("gate_proj", seen)) * project("up_proj", seen))

    rows = []
    for token, share in zip(x.flatten(0, 1), p.flatten(0, 1), strict=True):
        k = int(share.argmax())
        rows.append(base(token) + (share[k] if scaled else 1) * (whole(k, token) - base(token)))
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize("renorm", ["sum", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_a_block_equals_a_loop(renorm: str, training: bool, installed: Any, shake: Any) -> None:
    """The update is whole, or scaled by p; the base's output is whole in both."""
    composed = of(installed, shake, {"route.renorm": renorm})
    x = torch.randn(2, 6, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    composed.context.training = training
    found = composed.sites[PATH](x)
    assert (found - loop(composed, x, renorm == "none")).abs().max() < 1e-10
    assert (found - loop(composed, x, renorm != "none")).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("overrides", "reaches"),
    [({}, True), ({"route.renorm": "none"}, True), ({"route.straight_through": False}, False)],
    ids=str,
)
def test_the_task_reaches_the_router(overrides: dict[str, Any], reaches: bool, installed: Any, shake: Any) -> None:
    """Without the balance: not at all where the weight is the constant 1, and the balance alone then reaches it."""
    composed = of(installed, shake, {"loss.aux.coef": 0.0, **overrides})
    window_gradient(composed, [tiny_batch()])
    sizes = [0.0 if p.grad is None else p.grad.abs().max().item() for p in composed.groups()["routers"].values()]
    assert all(size > 0 for size in sizes) if reaches else max(sizes) == 0
    balanced = of(installed, shake, {"loss.stats_scope": "microbatch", **overrides})
    window_gradient(balanced, [tiny_batch()])
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in balanced.groups()["routers"].values())


def test_the_gradient_is_that_of_p(installed: Any, shake: Any) -> None:
    """d y / d l_j = (E_k(x) - E(x)) p_k (1[j = k] - p_j), though the forward's weight is 1."""
    composed = of(installed, shake)
    block = composed.sites[PATH]
    x = torch.randn(1, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    towards = torch.randn(1, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    weight = composed.groups()["routers"][f"routers.{PATH}.weight"].requires_grad_()
    composed.context.training = True
    (found,) = torch.autograd.grad((block(x) * towards).sum(), weight)
    with torch.no_grad():
        added = loop(composed, x, False) - block.base(x)
        p = (x @ weight.T).softmax(-1)
        k = p.argmax(-1, keepdim=True)
        slope = p.gather(-1, k) * (F.one_hot(k[..., 0], 4) - p)
        expected = torch.einsum("btn,btd,bt->nd", slope, x, (added * towards).sum(-1))
    assert (found - expected).abs().max() < 1e-10


def test_balance_is_one_at_balance_and_n_at_collapse(installed: Any) -> None:
    """N sum c_j pbar_j: 4 of four experts when every token goes to one with all its mass, near 1 when spread."""
    composed = installed("llava-mole", {"loss.stats_scope": "microbatch", "router.init_std": 1.0})
    composed.context.training = True
    batch = tiny_batch()
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    mask, each = batch.attention_mask.bool(), []
    for router in composed.routers:
        p = router.record.logits[..., 0, :].softmax(-1)[mask]
        share = F.one_hot(p.argmax(-1), 4).double().mean(0)
        each.append(4 * (share * p.mean(0)).sum())
    assert composed.losses()["aux"].value.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-10)
    assert composed.losses.__self__.loss.config.aux.coef == 1e-2


def test_attention_has_a_plain_lora(installed: Any) -> None:
    names = installed("llava-mole").groups()["attention"]
    assert {name.split(".")[-2] for name in names} == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_variant_conforms() -> None:
    conformance.check("llava-mole", {"route.renorm": "none", "n_experts": 3, "loss.stats_scope": "accum"})
