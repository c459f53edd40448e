"""What a record says of routers, by hand over a few tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.routing.context import RoutingContext
from methods.routing.diagnostics import Collector, Observation

RNG = torch.Generator().manual_seed(3)


class Seen:
    """Routers that leave what they are given."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.observed: Observation | None = None


def logits(b: int, t: int, k: int = 1, n: int = 3) -> Tensor:
    return torch.randn(b, t, k, n, dtype=torch.float64, generator=RNG)


def top(z: Tensor) -> Tensor:
    """The largest of three, alone."""
    return torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(z.dtype)


def test_every_field_of_a_record() -> None:
    router, context = Seen("a", "b"), RoutingContext()
    collector = Collector([router], context)
    z, start = logits(2, 3, 2), logits(2, 3, 2)
    router.observed = Observation(z, top(z), start)
    found = collector.summary(("x", "y", "z"), own=1)
    assert found is not None
    p, each = z.softmax(-1).flatten(0, 1), found["per_module"]
    assert found["experts"] == ["x", "y", "z"]
    assert found["modules"] == ["a", "b"]
    flat = top(z).flatten(0, 1)
    expected = {
        "load": flat.mean(0),
        "entropy": -(p * p.log()).sum(-1).mean(0) / math.log(3),
        "variance": p.var(0, correction=0).sum(-1),
        "kept_mass": (p * flat).sum(-1).mean(0),
        "logit_shift": (z - start).abs().mean((0, 1, 3)),
        "logit_std_initial": start.flatten(0, 1).var(0, correction=0).mean(-1).sqrt(),
        "own_expert_mass": p[..., 1].mean(0),
    }
    for field, values in expected.items():
        assert torch.tensor(each[field], dtype=torch.float64).sub(values).abs().max() < 1e-12, field
        assert torch.tensor(found[field], dtype=torch.float64).sub(values.mean(0)).abs().max() < 1e-12, field
    assert router.observed is None


def test_passes_add_up_token_by_token() -> None:
    one, other = Seen("a"), Seen("a")
    whole, cut = Collector([one], RoutingContext()), Collector([other], RoutingContext())
    z = logits(4, 2)
    one.observed = Observation(z, top(z), None)
    for part in (z[:1], z[1:]):
        other.observed = Observation(part, top(part), None)
        cut.clear()
    together, apart = whole.summary("xyz", 0), cut.summary("xyz", 0)
    assert together is not None
    assert apart is not None
    for field in ("load", "entropy", "variance", "kept_mass", "own_expert_mass"):
        assert together[field] == pytest.approx(apart[field]), field
    assert together["logit_shift"] == 0  # nothing is trained: the start is what is


def test_padding_is_left_out_and_masks_of_another_shape_are_not_its() -> None:
    router, context = Seen("a"), RoutingContext(token_mask=torch.tensor([[True, True, False]]))
    collector = Collector([router], context)
    z = logits(1, 3)
    router.observed = Observation(z, top(z), None)
    masked = collector.summary("xyz", None)
    assert masked is not None
    assert masked["load"] == pytest.approx(top(z)[0, :2, 0].mean(0).tolist())
    assert masked["own_expert_mass"] is None
    assert masked["per_module"]["own_expert_mass"] == [None]
    collector.reset()
    router.observed = Observation(z[:, :2], top(z)[:, :2], None)
    shorter = collector.summary("xyz", None)
    assert shorter is not None
    assert shorter["load"] == pytest.approx(masked["load"])


def test_weights_of_a_sequence_count_at_each_of_its_tokens() -> None:
    router = Seen("a")
    collector = Collector([router], RoutingContext())
    z = logits(2, 3)
    w = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]], dtype=torch.float64)[:, None, None]
    router.observed = Observation(z, w, None)
    found = collector.summary("xyz", None)
    assert found is not None
    assert found["load"] == pytest.approx([0.5, 0.25, 0.25])


def test_routers_over_other_tokens_are_summed_apart() -> None:
    """The encoder's router and the decoder's see sequences of other lengths."""
    routers = [Seen("decoder"), Seen("encoder"), Seen("decoder too")]
    collector = Collector(routers, RoutingContext())
    passes = [logits(2, 3), logits(2, 5), logits(2, 3)]
    for router, z in zip(routers, passes, strict=True):
        router.observed = Observation(z, top(z), None)
    found = collector.summary("xyz", None)
    assert found is not None
    loads = [top(z).mean((0, 1, 2)).tolist() for z in passes]
    assert found["per_module"]["load"] == [pytest.approx(load) for load in loads]


def test_without_a_token_there_is_no_record() -> None:
    routers = [Seen("a"), Seen("b")]
    collector = Collector(routers, RoutingContext())
    assert collector.summary("xyz", None) is None
    z = logits(1, 2)
    routers[1].observed = Observation(z, top(z), None)
    assert collector.summary("xyz", None) is None  # of the other nothing is known
    routers[0].observed = Observation(z, top(z), None)
    assert collector.summary("xyz", None) is not None
    collector.reset()
    assert collector.summary("xyz", None) is None


def test_where_shares_are_weights_tokens_that_keep_nothing_do_not_count() -> None:
    router = Seen("a")
    collector = Collector([router], RoutingContext())
    z = logits(1, 3, n=2)
    w = torch.tensor([[0.2, 0.6], [0.0, 0.0], [0.3, 0.0]], dtype=torch.float64)[None, :, None]
    router.observed = Observation(z, w, None, of_softmax=False)
    found = collector.summary("xy", 0)
    assert found is not None
    assert found["own_expert_mass"] == pytest.approx((0.25 + 1.0) / 2)
    router.observed = Observation(z, 0 * w, None, of_softmax=False)
    collector.reset()
    router.observed = Observation(z, 0 * w, None, of_softmax=False)
    none = collector.summary("xy", 0)
    assert none is not None
    assert none["own_expert_mass"] is None


def test_an_impossible_expert_has_no_entropy_and_one_expert_none_at_all() -> None:
    router = Seen("a")
    collector = Collector([router], RoutingContext())
    z = torch.tensor([[[[0.0, -torch.inf]]]], dtype=torch.float64)
    router.observed = Observation(z, top(z), z)
    found = collector.summary("xy", None)
    assert found is not None
    assert (found["entropy"], found["variance"]) == (0.0, 0.0)
    single = Collector([router], RoutingContext())
    router.observed = Observation(z[..., :1], torch.ones_like(z[..., :1]), None)
    alone = single.summary("x", 0)
    assert alone is not None
    assert (alone["entropy"], alone["own_expert_mass"], alone["load"]) == (0.0, 1.0, [1.0])


def test_sums_go_on_where_they_were_kept() -> None:
    routers, context = [Seen("a"), Seen("a")], RoutingContext()
    whole, later = Collector(routers[:1], context), Collector(routers[1:], context)
    z = logits(4, 2)
    routers[0].observed = Observation(z[:2], top(z[:2]), None)
    whole.clear()
    kept = {name: value.clone() for name, value in whole.state().items()}
    later.load_state(kept)
    for router in routers:
        router.observed = Observation(z[2:], top(z[2:]), None)
    assert whole.summary("xyz", 0) == later.summary("xyz", 0) is not None
    whole.reset()
    later.load_state(whole.state())
    assert later.summary("xyz", 0) is None
