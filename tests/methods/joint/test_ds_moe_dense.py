"""DS-MoE's recipe with experts of its own: dense in training, sparse and not renormalised at inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from methods import conformance, registry
from methods.tiny import TinySession, tiny_batch, tiny_llama


def probabilities(composed: Any) -> dict[str, Tensor]:
    return {
        name.removeprefix("routers.").removesuffix(".weight"): p for name, p in composed.groups()["routers"].items()
    }


def test_dense_in_training_sparse_at_inference(installed: Any, shake: Any, logits: Any, naive: Any, topk: Any) -> None:
    """Training passes use all p, inference the two largest as they are; renormalising them (the control) differs."""
    model = tiny_llama(dtype=torch.float64)
    composed = installed("ds-moe-dense", {"route.eval_k": 2}, model=model)
    shake(composed, "routers", "experts", std=0.3)
    rows, experts = probabilities(composed), [composed.expert(name) for name in composed.experts]

    def mixed(k: int, renorm: str) -> Tensor:
        def weigh(site: str, x: Tensor, _: list[Tensor]) -> Tensor:
            return topk((x @ rows[site].detach().T).softmax(-1), k, renorm)

        return logits(naive(experts, weigh))

    assert (logits(model) - mixed(2, "none")).abs().max() < 1e-10
    assert (logits(model) - mixed(2, "sum")).abs().max() > 1e-2
    composed.context.training = True
    assert (logits(model) - mixed(4, "none")).abs().max() < 1e-10


def test_all_experts_at_inference_are_the_training_forward(installed: Any, shake: Any, logits: Any) -> None:
    """eval_k = N gives the training forward."""
    composed = installed("ds-moe-dense", {"route.dense": True})
    shake(composed, "routers", "experts", std=0.3)
    expected = logits(composed.model)
    composed.context.training = True
    assert torch.equal(logits(composed.model), expected)


def test_experts_are_trained_under_the_loss(resolved: Any, installed: Any) -> None:
    """The term is mutual information alone, and all experts of every token get a gradient."""
    composed, session = installed("ds-moe-dense"), TinySession(steps=2)
    resolved("ds-moe-dense").fit(composed, session)
    assert session.trained == {"routers", "experts"}
    assert session.log[0].keys() == {"task", "mi"}
    for name, parameter in composed.groups()["experts"].items():
        if name.endswith(".B"):
            assert parameter.abs().max() > 0, name


def test_it_shares_the_routers_of_the_plug_in_row(installed: Any) -> None:
    """Same routers at the same places, drawn from the same seed, as the row over frozen experts."""
    ours = installed("ds-moe-dense").groups()["routers"]
    model = tiny_llama(dtype=torch.float64)
    from methods.tiny import tiny_experts

    theirs = registry.create("ds-moe").install(model, tiny_experts(model), seed=0).groups()["routers"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_spreading_and_sharpening(resolved: Any, installed: Any) -> None:
    """With a large coefficient routing depends on the token more than with none."""
    shares = []
    for coefficient in (0.0, 20.0):
        composed = installed("ds-moe-dense", {"loss.mi.coef": coefficient})
        method = resolved("ds-moe-dense", {"loss.mi.coef": coefficient})
        method.fit(composed, TinySession(steps=20))
        batch = tiny_batch()
        with composed.task("a", None), torch.no_grad():
            composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        report = composed.diagnostics()
        assert report is not None
        shares.append(report["entropy"])
    assert shares[1] < shares[0] - 0.05


def test_variant_conforms() -> None:
    conformance.check("ds-moe-dense", {"route.threshold": 0.48, "n_experts": 3, "loss.stats_scope": "accum"})
