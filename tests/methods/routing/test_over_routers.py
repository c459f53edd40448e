"""How the losses of single routers make one loss: `loss.over_routers`, and what each method's source does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.naming import VariantError
from methods.routing.auxiliary import RouterLosses
from methods.routing.composed import RoutedComposed
from methods.routing.config import LossConfig
from methods.routing.inject import layer_of
from methods.routing.router import Record
from methods.routing.sparsify import Sparsifier
from methods.routing.statistics import RoutingBatch
from methods.tiny import tiny_batch, tiny_experts, tiny_llama, window_gradient

KEEP = Sparsifier(3, 3)


def logits(seed: int = 0) -> Tensor:
    return torch.randn(8, 16, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pull(over: str, layers: tuple[str, ...], entropy: bool = False) -> tuple[float, float]:
    """The raw value that is logged, and the length of the gradient at the first of several equal routers."""
    coefficients = {"aux": {"coef": 0.0}} if entropy else {"entropy": {"coef": 0.0}}
    config = LossConfig.model_validate(
        {"over_routers": over, "stats_scope": "microbatch", "warmup_frac": 0.0, **coefficients}
    )
    each = [logits().requires_grad_() for _ in layers]
    loss = RouterLosses(len(layers), 6, config, each[0])
    loss.layers = layers
    (term,) = loss(RoutingBatch([Record(x, KEEP(x, True)) for x in each], None), 1.0).values()
    (gradient,) = torch.autograd.grad(term.coefficient * term.value, each[:1])
    return term.value.item(), gradient.norm().item()


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize(
    ("over", "shares"),
    [("mean", (1 / 2, 1 / 8, 1 / 128)), ("sum", (1.0, 1.0, 1.0)), ("layer_sum", (1 / 2, 1 / 4, 1 / 4))],
)
def test_the_pull_on_one_router_follows_the_reading(over: str, shares: tuple[float, ...], entropy: bool) -> None:
    """A mean pulls a router of a large model less; a sum pulls every router alike; a sum over layers shares one layer's
    pull among its routers. The value that is logged is a mean in all of them."""
    value, alone = pull("mean", ("a",), entropy)
    models = (("a", "a"), ("a",) * 4 + ("b",) * 4, tuple(f"layer {n // 4}" for n in range(128)))
    for layers, share in zip(models, shares, strict=True):
        logged, found = pull(over, layers, entropy)
        assert found == pytest.approx(share * alone, rel=1e-12)
        assert logged == pytest.approx(value, rel=1e-12)


def test_a_layer_counts_once_however_many_routers_it_has() -> None:
    """With one router in a layer and three in another, the lone one takes its layer's whole pull."""
    _, alone = pull("mean", ("a",))
    assert pull("layer_sum", ("a", "b", "b", "b"))[1] == pytest.approx(alone, rel=1e-12)
    assert pull("layer_sum", ("b", "b", "b", "a"))[1] == pytest.approx(alone / 3, rel=1e-12)


def composed(name: str, overrides: dict[str, Any] | None = None) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    settings = {"loss.stats_scope": "microbatch", **(overrides or {})}
    if "loss.warmup_frac" in registry.config_keys(name):
        settings["loss.warmup_frac"] = 0.0
    if "router.init_std" in registry.config_keys(name):
        settings["router.init_std"] = 0.5
    made = registry.create(name, settings).install(model, tiny_experts(model), seed=0)
    assert isinstance(made, RoutedComposed)
    return made


def auxiliary_gradient(made: RoutedComposed) -> dict[str, Tensor]:
    """Gradient of the routing losses alone at every router."""
    made.context.training, made.context.progress = True, 1.0
    batch = tiny_batch()
    made.context.label_mask = batch.labels != -100
    made.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    total = torch.stack([term.coefficient * term.value for term in made.losses().values()]).sum()
    routers = made.groups()["routers"]
    found = torch.autograd.grad(total, list(routers.values()), allow_unused=True)
    return {name: g for name, g in zip(routers, found, strict=True) if g is not None}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("mixer", {}),
        ("mixer-aux", {}),
        ("mixer", {"loss.mi.coef": 1.0, "loss.cv2.coef": 1.0, "loss.z.coef": 1.0}),
        ("gmoe", {}),
        ("gmoe", {"loss.released": True}),
        ("ds-moe", {}),
        ("aesl", {"loss.calibrate": False}),
        ("mole", {"loss.per_gate": True, "gate.init_std": 0.5}),
    ],
)
def test_every_routing_loss_follows_the_key(name: str, overrides: dict[str, Any]) -> None:
    """Eight routers in two layers: sum = 8 x mean, layer_sum = 2 x mean, to rounding, for every method that has it."""
    gradients = {
        over: auxiliary_gradient(composed(name, {**overrides, "loss.over_routers": over}))
        for over in ("mean", "sum", "layer_sum")
    }
    assert len({layer_of(router.removeprefix("routers.")) for router in gradients["mean"]}) == 2
    for over, factor in (("sum", 8), ("layer_sum", 2)):
        for router, gradient in gradients["mean"].items():
            torch.testing.assert_close(gradients[over][router], factor * gradient, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("over", ["sum", "layer_sum"])
def test_cutting_a_window_changes_no_gradient(over: str) -> None:
    whole = composed("mixer", {"loss.stats_scope": "accum", "loss.over_routers": over})
    cut = composed("mixer", {"loss.stats_scope": "accum", "loss.over_routers": over})
    batch = tiny_batch()
    window_gradient(whole, [batch])
    window_gradient(cut, [batch[:3], batch[3:4], batch[4:]])
    for one, two in zip(whole.groups()["routers"].values(), cut.groups()["routers"].values(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=1e-12)


def test_calibration_measures_one_router_and_then_sums() -> None:
    """AESL's coefficients come from the size of a term at one router, so a sum over routers is not calibrated away."""
    coefficients = {}
    for over in ("mean", "sum"):
        made = composed("aesl", {"loss.over_routers": over})
        window_gradient(made, [tiny_batch()])
        made.on_window_end()
        assert made.loss is not None
        coefficients[over] = made.loss.state().get("statistics.coefficients")
        assert coefficients[over] is not None
    assert torch.equal(coefficients["mean"], coefficients["sum"])


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("mixlora", "loss.aux.concat_layers", True), ("mole", "loss.per_gate", False)],
)
def test_one_loss_over_all_routers_has_nothing_to_sum(name: str, key: str, value: bool) -> None:
    with pytest.raises(VariantError, match="over_routers"):
        registry.create(name, {key: value, "loss.over_routers": "sum"})


SOURCES = {
    "mixer": "sum",
    "mixer-aux": "sum",
    "mixer-none": "sum",
    "mixer-joint": "sum",
    "aesl": "sum",
    "ds-moe": "sum",
    "ds-moe-dense": "sum",
    "gmoe": "mean",
    "gmoe-graph": "mean",
    "mole": "mean",
    "mixlora": "mean",
    "mor-lora": "sum",
    "molora": "sum",
    "mola": "sum",
    "llava-mole": "mean",
    "aesl-joint": "sum",
    "ld-mole": "mean",
    "meteora": "mean",
    "adamole": "mean",
    "dynmole": "mean",
    "hmora": "sum",
    "goat": "sum",
}


def test_every_method_with_routing_losses_says_what_its_source_does() -> None:
    """Defaults are the sources', and every card names the key, its default and the source."""
    found = {}
    for name in registry.names():
        keys = registry.config_keys(name)
        for key in ("loss.over_routers", "balance.over_routers"):
            if key in keys:
                found[name] = keys[key]
                says = registry.card(name).body()
                assert key in says or name in ("mixer-none", "mixer-joint"), name
    assert found == SOURCES | {"loramoe": "sum"}
