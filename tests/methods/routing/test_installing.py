"""How routed layers are put into a model: which sites share what, who is trained, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import methods.routing
from methods import registry
from methods.base import Expert, SiteFactors, Unsupported
from methods.conformance import Subject
from methods.routing import face, losses
from methods.routing.build import install_hard, install_routed, install_static, one_width
from methods.routing.factors import Kept, TrainableFactors, shrunk, stacked_A, stacked_B
from methods.routing.head import WholeLogits
from methods.routing.inject import Freeze, check_architecture, input_groups, layer_of, replace_modules
from methods.routing.mamba import selective_scan
from methods.routing.probe import evaluating, refuse_bypassed, require_visits, summing_to_one, weighing_evenly
from methods.routing.sparsify import Sparsifier
from methods.tiny import tiny_experts, tiny_llama

NAMES = ("a", "b", "c")
IDS = torch.tensor([[3, 4, 5], [6, 5, 4]])


def model_and_pool(names: tuple[str, ...] = NAMES) -> tuple[Any, list[Expert]]:
    model = tiny_llama(dtype=torch.float64)
    return model, tiny_experts(model, names)


def logits(model: nn.Module, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS, **more).logits
    return found


def test_the_package_offers_what_its_face_has_and_nothing_else() -> None:
    for name in methods.routing.__all__:
        if name != "losses":
            assert methods.routing.__getattr__(name) is getattr(face, name)
    assert methods.routing.__getattr__("losses") is losses
    assert set(methods.routing.__all__) <= set(dir(methods.routing))
    assert dir(methods.routing) == sorted(dir(methods.routing))
    with pytest.raises(AttributeError, match=r"^module 'methods.routing' has no attribute 'nonsense'$"):
        methods.routing.__getattr__("nonsense")


@pytest.mark.parametrize(
    ("site", "layer"),
    [
        ("model.layers.0.self_attn.q_proj", "model.layers.0"),
        ("model.layers.12", "model.layers.12"),
        ("encoder.block.1.layer.0.q", "encoder.block.1"),
        ("lm_head", "lm_head"),
    ],
)
def test_a_layer_is_the_first_numbered_part(site: str, layer: str) -> None:
    assert layer_of(site) == layer


def test_sites_that_read_one_tensor_are_together() -> None:
    assert input_groups(["l.0.q_proj", "l.0.o_proj", "l.0.v_proj", "l.1.q_proj", "l.0.gate_proj", "l.0.up_proj"]) == [
        ["l.0.q_proj", "l.0.v_proj"],
        ["l.0.o_proj"],
        ["l.1.q_proj"],
        ["l.0.gate_proj", "l.0.up_proj"],
    ]
    cross = [f"decoder.block.0.layer.1.EncDecAttention.{leaf}" for leaf in "qkv"]
    assert input_groups(cross) == [cross[:1], cross[1:]]
    assert input_groups(["f.wi_0", "f.wi_1", "f.wo"]) == [["f.wi_0", "f.wi_1"], ["f.wo"]]


def test_a_global_router_needs_layers_that_begin_with_one_width() -> None:
    said = "a global router needs inputs of one width: choose router.scope=per_layer"
    assert one_width({"l.0.q_proj": 8, "l.0.down_proj": 16, "l.1.q_proj": 8}) is None
    assert one_width({"l.0.down_proj": 16, "l.1.q_proj": 8}) == said
    assert one_width({}) is None
    both = {"encoder.block.0.q": 8, "decoder.block.0.q": 8, "decoder.block.0.EncDecAttention.k": 4}
    assert one_width(both) == said  # a decoder's layer begins twice, once for each sequence
    assert one_width(both | {"decoder.block.0.EncDecAttention.k": 8}) is None


@pytest.mark.parametrize(
    ("scope", "routers", "providers"),
    [("per_projection", 8, 8), ("shared_qkv", 4, 4), ("per_layer", 2, 2), ("global", 2, 1)],
)
def test_a_scope_says_how_many_routers_there_are(scope: str, routers: int, providers: int) -> None:
    model, pool = model_and_pool()
    sites = len(pool[0].sites)
    composed = registry.create("mixer", {"router.scope": scope}).install(model, pool, seed=0)
    assert sites == 8
    assert sum(len(router.names) for router in composed.routers) == routers
    assert len({id(provider) for router in composed.routers for provider in router.providers}) == providers
    assert len(composed.groups()["routers"]) == providers
    plain = registry.create("mixer", {"router.scope": scope})
    plain.fuse = False
    composed.uninstall()
    apart = plain.install(model, pool, seed=0)
    assert sum(len(router.names) for router in apart.routers) == routers


def test_one_expert_needs_no_routing() -> None:
    model, pool = model_and_pool(("a",))
    composed = install_static(model, pool, lambda site: [1.0])
    static = logits(model)
    composed.uninstall()
    composed = install_hard(model, pool, train_experts=False)
    assert logits(model).equal(static)
    assert composed.groups() == {}
    composed.uninstall()
    composed = install_hard(model, pool)
    assert (logits(model) - static).abs().max() < 1e-12
    assert set(composed.groups()) == {"experts"}


def test_hard_routing_is_the_tasks_own_expert_whether_trained_or_not() -> None:
    model, pool = model_and_pool()
    alone = []
    for expert in pool:
        composed = install_static(model, [expert], lambda site: [1.0])
        alone.append(logits(model))
        composed.uninstall()
    for train in (True, False):
        composed = install_hard(model, pool, train_experts=train)
        for own, expected in enumerate(alone):
            composed.context.begin_task("t", own)
            assert (logits(model) - expected).abs().max() < 1e-12
        composed.context.end_task()
        with pytest.raises(RuntimeError, match=r"set context\.domain, or enter composed\.task"):
            logits(model)
        composed.context.training, composed.context.domain = True, torch.tensor([2, 0])
        mixed = logits(model)
        assert (mixed[0] - alone[2][0]).abs().max() < 1e-12
        assert (mixed[1] - alone[0][1]).abs().max() < 1e-12
        composed.uninstall()


def some(rank: int, scale: float) -> SiteFactors:
    draw = torch.Generator().manual_seed(rank)
    return SiteFactors(
        torch.randn(rank, 5, dtype=torch.float64, generator=draw),
        torch.randn(4, rank, dtype=torch.float64, generator=draw),
        scale,
    )


def test_factors_of_unequal_ranks_and_missing_ones_are_padded_with_nothing() -> None:
    pool, like = [some(2, 0.5), None, some(3, 2.0)], torch.zeros(4, 5, dtype=torch.float64)
    A, B = stacked_A(pool, 3, like), stacked_B(pool, 3, like)
    assert (A.shape, B.shape) == ((9, 5), (9, 4))
    for n, f in enumerate(pool):
        update = A[3 * n : 3 * n + 3].T @ B[3 * n : 3 * n + 3]
        expected = torch.zeros(5, 4, dtype=torch.float64) if f is None else f.scale * (f.B @ f.A).T
        assert (update - expected).abs().max() < 1e-12
    weighted = stacked_B(pool, 3, like, [2.0, 1.0, -1.0])
    assert (weighted[:3] - 2 * B[:3]).abs().max() < 1e-12
    assert (weighted[6:] + B[6:]).abs().max() < 1e-12


def test_trained_factors_are_those_that_were_given_until_they_are_trained() -> None:
    pool, like = [some(2, 0.5), None, some(3, 2.0)], torch.zeros(4, 5, dtype=torch.float64)
    trained = TrainableFactors(pool, like)
    A, B = trained.stacked([0, 1, 2], torch.float64)
    assert A.equal(stacked_A(pool, 3, like))
    assert B.T.equal(stacked_B(pool, 3, like))
    two, _ = trained.stacked([2, 0], torch.float64)
    assert two.equal(torch.cat([A[6:], A[:3]]))
    assert trained.expert(1) is None
    copy = trained.expert(2)
    assert copy is not None
    assert copy.scale == 2.0
    assert copy.A.equal(pool[2].A)  # type: ignore[union-attr]
    assert not copy.A.requires_grad
    assert trained.always(torch.float64) is None
    half = TrainableFactors(pool, like.half())
    assert half.A[0].dtype == torch.float32
    assert half.stacked([0], torch.float16)[0].dtype == torch.float16
    with torch.no_grad():
        kept = trained.stacked([0], torch.float64)
        assert trained.stacked([0], torch.float64)[0] is kept[0]
        trained.A[0] += 1
        assert not trained.stacked([0], torch.float64)[0].equal(kept[0])


def test_a_result_is_kept_while_nothing_changes_and_nobody_differentiates() -> None:
    kept, parameter, made = Kept(), nn.Parameter(torch.zeros(2)), []

    def make() -> int:
        made.append(1)
        return len(made)

    with torch.no_grad():
        assert [kept.get([parameter], about, make) for about in ("x", "x", "y", "y", "x")] == [1, 1, 2, 2, 3]
        parameter += 1
        assert kept.get([parameter], "x", make) == 4
    assert [kept.get([parameter], "x", make) for _ in range(2)] == [5, 6]
    with torch.no_grad():
        assert kept.get([parameter], "x", make) == 7


def test_masks_are_one_for_all_or_each_experts_own() -> None:
    x, A = torch.ones(1, 64, dtype=torch.float64), torch.eye(64, dtype=torch.float64).repeat(2, 1)
    torch.manual_seed(0)
    one = shrunk(x, A, 2, 0.5, each=False).view(2, 64)
    assert one[0].equal(one[1])
    assert set(one.unique().tolist()) == {0.0, 2.0}
    own = shrunk(x, A, 2, 0.5, each=True).view(2, 64)
    assert not own[0].equal(own[1])
    assert shrunk(x, A, 2, 0.0, each=True).equal(F.linear(x, A))


def test_the_scan_is_the_recurrence_step_by_step() -> None:
    draw = torch.Generator().manual_seed(0)
    b, t, d, n = 2, 9, 3, 4
    x, dt, B, C = (
        torch.rand(*s, dtype=torch.float64, generator=draw) for s in ((b, t, d), (b, t, d), (b, t, n), (b, t, n))
    )
    A = -torch.rand(d, n, dtype=torch.float64, generator=draw)
    h, expected = torch.zeros(b, d, n, dtype=torch.float64), []
    for i in range(t):
        h = torch.exp(A * dt[:, i, :, None]) * h + dt[:, i, :, None] * B[:, i, None] * x[:, i, :, None]
        expected.append((h * C[:, i, None]).sum(-1))
    y, state = selective_scan(x, dt, A, B, C)
    assert (y - torch.stack(expected, 1)).abs().max() < 1e-12
    assert (state - h).abs().max() < 1e-12
    first, middle = selective_scan(x[:, :4], dt[:, :4], A, B[:, :4], C[:, :4])
    second, end = selective_scan(x[:, 4:], dt[:, 4:], A, B[:, 4:], C[:, 4:], middle)
    assert (torch.cat([first, second], 1) - y).abs().max() < 1e-12
    assert (end - state).abs().max() < 1e-12


def test_modules_are_put_in_and_given_back_with_their_flags() -> None:
    model = tiny_llama()
    path, own = "model.layers.0.mlp.up_proj", model.model.layers[0].mlp.up_proj
    other = nn.Identity()
    replaced = replace_modules(model, {path: other})
    assert model.get_submodule(path) is other
    assert replaced == {path: own}
    assert replace_modules(model, replaced) == {path: other}
    own.weight.requires_grad_(False)
    freeze = Freeze(model)
    assert not any(p.requires_grad for p in model.parameters())
    freeze.undo()
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [f"{path}.weight"]


def test_an_encoder_decoder_that_nobody_knows_is_refused() -> None:
    known = type("Config", (), {"model_type": "t5", "is_encoder_decoder": True})
    check_architecture(known)
    check_architecture(type("Config", (), {"model_type": "new"}))
    with pytest.raises(Unsupported) as caught:
        check_architecture(type("Config", (), {"model_type": "bart", "is_encoder_decoder": True}))
    assert str(caught.value) == (
        "Encoder-decoder models of type bart are not supported: choose T5, or a decoder alone."
    )


class Reads(nn.Module):
    """Computes with one layer's weight by itself, and asks for another's type."""

    def __init__(self) -> None:
        super().__init__()
        self.taken, self.asked, self.called = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.asked.weight.dtype).to(self.asked.weight.device)
        if isinstance(self.called.weight, nn.Parameter) and hasattr(self.called.weight, "shape"):
            x = self.called(x)
        return F.linear(x, self.taken.weight)


def test_a_layer_whose_weight_its_owner_takes_is_refused() -> None:
    whole = nn.ModuleDict({"inner": Reads()})
    refuse_bypassed(whole, ["inner.asked", "inner.called"])
    refuse_bypassed(whole, ["inner.taken"], mended=[whole["inner"]])
    with pytest.raises(Unsupported) as caught:
        refuse_bypassed(whole, ["inner.called", "inner.taken"])
    assert str(caught.value) == (
        "Reads computes with taken.weight itself (in a fused kernel, on some devices), so that a LoRA on inner.taken "
        "would be bypassed: leave taken out of the experts' target modules."
    )


def test_a_model_evaluates_inside_a_block_and_each_part_goes_on_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    model.train()
    model[0].eval()
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == [True, False, True]


def test_weights_sum_to_one_or_are_even_inside_a_block() -> None:
    composed = Subject("mixer", {"route.renorm": "none"}).install()
    router = composed.routers[0]  # type: ignore[attr-defined]
    own = router.sparsifier
    assert own.renorm == "none"
    with summing_to_one([router]):
        assert router.sparsifier == Sparsifier(own.train_k, own.eval_k, "sum")
    assert router.sparsifier is own
    with weighing_evenly([router]):
        assert router.sparsifier(torch.randn(2, 5), False).tolist() == [[pytest.approx(0.2)] * 5] * 2
    assert router.sparsifier is own


def test_a_layer_that_text_does_not_pass_is_refused() -> None:
    model = tiny_llama()
    require_visits(model, [])
    require_visits(model, ["model.layers.0.mlp.up_proj"])
    model.unused = nn.Linear(2, 2)
    with pytest.raises(Unsupported) as caught:
        require_visits(model, ["model.layers.0.mlp.up_proj", "unused"])
    assert str(caught.value) == (
        "LlamaForCausalLM reads text without calling unused, so that experts there would do nothing: leave it out of "
        "the experts' target modules."
    )
    assert not model.model.layers[0].mlp.up_proj._forward_pre_hooks


def test_logits_are_cut_behind_an_output_layer_that_must_see_every_token() -> None:
    model = tiny_llama(dtype=torch.float64)
    whole = logits(model)
    cut = WholeLogits(model, [model.lm_head])
    seen: list[torch.Size] = []
    model.lm_head.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[:2]))
    assert logits(model, logits_to_keep=1).equal(whole[:, -1:])
    assert logits(model, logits_to_keep=2).equal(whole[:, -2:])
    assert logits(model, logits_to_keep=torch.tensor([0, 2])).equal(whole[:, [0, 2]])
    assert logits(model, logits_to_keep=0).equal(whole)
    assert logits(model).equal(whole)
    assert seen == [(2, 3)] * 5
    cut.undo()
    assert (logits(model, logits_to_keep=1) - whole[:, -1:]).abs().max() < 1e-12
    assert seen[-1] == (2, 1)
    WholeLogits(model, [model.model.layers[0]])
    logits(model, logits_to_keep=1)
    assert seen[-1] == (2, 1)


def test_a_site_says_when_nobody_computes_its_update() -> None:
    from methods.routing.linear import RoutedLinear

    base = nn.Linear(5, 4, bias=False).double()
    site = RoutedLinear("up", base, [some(2, 0.5), None])
    assert (site.rank, site.in_features, site.out_features, site.bias, site.trainable) == (2, 5, 4, None, None)
    assert site.weight is base.weight
    assert not site.whole
    with pytest.raises(Unsupported, match=r"^The layer up is given inputs of shape \(3, 5\)"):
        site.sequences(torch.zeros(3, 5))
    with pytest.raises(RuntimeError, match=r"^the site up is not attached to a group$"):
        site(torch.zeros(1, 1, 5, dtype=torch.float64))


def test_what_watches_sites_takes_their_sources_place() -> None:
    from dataclasses import replace

    model, pool = model_and_pool()
    method = registry.create("mixer")
    seen: list[int] = []

    def watch(sites: Any, source: Any) -> Any:
        seen.append(len(sites))
        return source

    from methods.routing.context import RoutingContext

    context = RoutingContext()
    routing = replace(method.routing(context, NAMES, 0), watch=watch)
    install_routed(model, pool, context, routing).uninstall()
    assert sum(seen) == 8
    assert max(seen) > 1
    seen.clear()
    install_routed(model, pool, context, routing, fuse=False).uninstall()
    assert seen == [1] * 8
