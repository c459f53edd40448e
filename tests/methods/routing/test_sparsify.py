"""From logits to weights, on numbers that can be checked by eye."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.base import Unsupported
from methods.routing.config import RouteConfig, refuse_large_k
from methods.routing.sparsify import DENSE, Sparsifier

P = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
LOGITS = P.log() + 1.7


def weights(sparsifier: Sparsifier, training: bool = True) -> list[float]:
    return sparsifier(LOGITS, training).tolist()


def test_all_are_kept_where_nothing_is_left_out() -> None:
    for training in (True, False):
        assert weights(DENSE, training) == pytest.approx(P.tolist())
        assert weights(Sparsifier(4, 4), training) == pytest.approx(P.tolist())
        assert weights(Sparsifier(9, 9, "none"), training) == pytest.approx(P.tolist())


@pytest.mark.parametrize(
    ("k", "renorm", "expected"),
    [
        (1, "sum", [0, 1, 0, 0]),
        (2, "sum", [0, 4 / 7, 0, 3 / 7]),
        (3, "sum", [0, 4 / 9, 2 / 9, 3 / 9]),
        (2, "none", [0, 0.4, 0, 0.3]),
    ],
)
def test_the_largest_are_kept(k: int, renorm: str, expected: list[float]) -> None:
    assert weights(Sparsifier(k, None, renorm)) == pytest.approx(expected)  # type: ignore[arg-type]
    assert weights(Sparsifier(None, k, renorm), training=False) == pytest.approx(expected)  # type: ignore[arg-type]
    assert weights(Sparsifier(k, None, renorm), training=False) == pytest.approx(P.tolist())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("threshold", "renorm", "expected"),
    [(0.9, "none", [0, 0.4, 0, 0.3]), (0.9, "sum", [0, 4 / 7, 0, 3 / 7]), (0.5, "none", [0, 0.4, 0.2, 0.3])],
)
def test_a_threshold_keeps_what_is_above_its_part_of_an_equal_share(
    threshold: float, renorm: str, expected: list[float]
) -> None:
    sparsifier = Sparsifier(1, 3, renorm, threshold)  # type: ignore[arg-type]
    assert weights(sparsifier, training=False) == pytest.approx(expected)
    assert weights(sparsifier)[1] == pytest.approx(1.0 if renorm == "sum" else 0.4)
    assert sparsifier.most(4, training=True) == 1
    assert sparsifier.most(4, training=False) == 4


def test_most_is_how_many_can_get_weight() -> None:
    assert Sparsifier(2, 3).most(4, training=True) == 2
    assert Sparsifier(2, 3).most(4, training=False) == 3
    assert Sparsifier(2, 9).most(4, training=False) == 4
    assert DENSE.most(4, training=True) == 4


def gradient(sparsifier: Sparsifier) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    (sparsifier(logits, training=True) * torch.arange(4.0)).sum().backward()
    assert logits.grad is not None
    return logits.grad


def test_straight_through_has_the_weights_of_the_sum_and_the_gradient_of_p() -> None:
    through = Sparsifier(1, 1, straight_through=True)
    assert weights(through) == [0, 1, 0, 0]
    assert gradient(through).tolist() == pytest.approx((-0.4 * P + 0.4 * torch.eye(4)[1]).tolist())
    assert gradient(Sparsifier(1, 1)).abs().max() == 0  # one weight of one is no choice
    assert weights(through, training=False) == [0, 1, 0, 0]


def test_straight_through_of_one_is_the_default_only_where_it_is_divided_by_itself() -> None:
    assert RouteConfig(train_k=1).sparsifier().straight_through
    assert not RouteConfig(train_k=2).sparsifier().straight_through
    assert not RouteConfig(train_k=1, renorm="none").sparsifier().straight_through
    assert not RouteConfig(train_k=1, dense=True).sparsifier().straight_through
    assert not RouteConfig(train_k=1, dense_train=True).sparsifier().straight_through
    assert not RouteConfig(train_k=1, straight_through=False).sparsifier().straight_through
    assert RouteConfig(train_k=2, straight_through=True).sparsifier().straight_through


@pytest.mark.parametrize("other", [{"dense": True}, {"dense_train": True}, {"renorm": "none"}])
def test_a_gradient_that_is_there_already_is_not_replaced(other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"have the gradient of p already: leave route\.straight_through out"):
        RouteConfig(straight_through=True, **other)  # type: ignore[arg-type]


def test_settings_name_the_sparsifier() -> None:
    route = RouteConfig(train_k=2, eval_k=3, renorm="none")
    assert (route.sparsifier().train_k, route.sparsifier().eval_k, route.sparsifier().renorm) == (2, 3, "none")
    dense, trained = RouteConfig(dense=True).sparsifier(), RouteConfig(dense_train=True, eval_k=2).sparsifier()
    assert (dense.train_k, dense.eval_k) == (None, None)
    assert (trained.train_k, trained.eval_k) == (None, 2)


def test_a_top_k_that_keeps_everything_is_refused() -> None:
    route = RouteConfig(train_k=2, eval_k=3)
    route.check(4)
    for n, phase, k in ((3, "eval", 3), (2, "train", 2)):
        with pytest.raises(Unsupported) as caught:
            route.check(n)
        assert str(caught.value) == (
            f"Top-{k} routing needs more than {k} experts but {n} experts are in the pool: "
            f"set route.{phase}_k below {n}, or route.dense=true, or name more experts."
        )
    RouteConfig(dense=True).check(1)
    RouteConfig(train_k=3, dense_train=True, eval_k=1).check(2)
    with pytest.raises(Unsupported, match="but 1 expert is in the pool"):
        refuse_large_k(1, 1, "train")


def test_nothing_of_a_weight_is_left_to_rounding() -> None:
    tiny = Sparsifier(2, 2)(LOGITS - 1e4, training=True)
    assert math.isclose(tiny.sum().item(), 1.0)
    assert (tiny > 0).tolist() == [False, True, False, True]
