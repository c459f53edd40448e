"""LoRAHub: what a set of weights means, and how it is searched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Expert, SiteFactors, Unsupported
from methods.lorahub import DIVERGED, Hub, LorahubConfig, search
from methods.tiny import TinySession, tiny_experts, tiny_llama

Update = Callable[[SiteFactors], Tensor]


def pool(names: str = "abcd", **options: Any) -> list[Expert]:
    return tiny_experts(tiny_llama(dtype=torch.float64), names, **options)


def install(experts: list[Expert] | None = None, **overrides: Any) -> Hub:
    model = tiny_llama(dtype=torch.float64)
    composed = registry.create("lorahub", overrides).install(model, experts or pool(), seed=0)
    assert isinstance(composed, Hub)
    return composed


def updates(composed: Hub, weights: list[float]) -> dict[str, Tensor]:
    composed.set_weights(torch.tensor(weights, dtype=torch.float64))
    found = {site: composed.update(site) for site in composed.sites}
    return {site: u.scale * u.B @ u.A for site, u in found.items()}  # type: ignore[union-attr]


def close(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.allclose(one[site], two[site], atol=1e-10) for site in one)


def test_the_formula_with_its_cross_terms() -> None:
    w = [0.3, -0.7, 1.1, 0.2]
    got = updates(install(), w)
    for site in got:
        factors = [expert.sites[site] for expert in pool()]
        terms = [v * u * f.B @ g.A for v, f in zip(w, factors, strict=True) for u, g in zip(w, factors, strict=True)]
        assert torch.allclose(got[site], 2.0 * torch.stack(terms).sum(0), atol=1e-10)


def test_one_hot_weights_are_one_expert(logits: Callable[..., Tensor]) -> None:
    experts = [
        Expert(e.name, {s: SiteFactors(f.A, f.B, 0.5 + i) for s, f in e.sites.items()}) for i, e in enumerate(pool())
    ]
    for i, expert in enumerate(experts):
        composed = install(experts)
        composed.set_weights(torch.eye(4)[i])
        alone = registry.create("lora").install(tiny_llama(dtype=torch.float64), [expert], seed=0)
        assert torch.allclose(logits(composed.model), logits(alone.model), atol=1e-10)


def test_the_update_is_even_and_quadratic() -> None:
    composed, w = install(), [0.3, -0.7, 1.1, 0.2]
    plain = updates(composed, w)
    assert close(updates(composed, [-v for v in w]), plain)
    assert close(updates(composed, [3 * v for v in w]), {site: 9 * update for site, update in plain.items()})


def test_copies_of_one_expert_average_to_it(update: Update) -> None:
    one = pool("a")[0]
    copies = [Expert(name, one.sites) for name in "xyz"]
    got = updates(install(copies), [1 / 3] * 3)
    assert close(got, {site: update(f) for site, f in one.sites.items()})


def test_zero_weights_are_the_base(logits: Callable[..., Tensor]) -> None:
    """And the search starts there."""
    base = logits(tiny_llama(dtype=torch.float64))
    composed = install()
    assert torch.equal(logits(composed.model), base)
    composed.set_weights(torch.ones(4))
    assert not torch.allclose(logits(composed.model), base, atol=1e-3)
    composed.set_weights(torch.zeros(4))
    assert torch.equal(logits(composed.model), base)


def test_it_is_not_the_mean_update(update: Update) -> None:
    """The negative control: independently drawn factors share no coordinates, and the cross terms outweigh the rest."""
    got = updates(install(), [0.25] * 4)
    for site, merged in got.items():
        mean = torch.stack([update(expert.sites[site]) for expert in pool()]).mean(0)
        assert float((merged - mean).norm() / mean.norm()) > 0.5


@pytest.mark.parametrize("fold", [True, False])
def test_folded_or_beside_is_the_same(fold: bool, logits: Callable[..., Tensor]) -> None:
    one, two = install(), install(fold=fold)
    for composed in (one, two):
        composed.set_weights(torch.tensor([0.3, -0.7, 1.1, 0.2]))
    assert torch.allclose(logits(one.model), logits(two.model), atol=1e-10)


def test_unequal_experts_are_refused_by_name() -> None:
    small = pool("b", rank=2)[0]
    few = pool("c", targets=["q_proj"])[0]
    with pytest.raises(Unsupported, match=r"'a' has rank 4 at .* where 'b' has rank 2: choose experts of equal"):
        install([*pool("a"), small])
    with pytest.raises(Unsupported, match=r"'a' has rank 4 at .*k_proj where 'c' has nothing"):
        install([*pool("a"), few])
    with pytest.raises(Unsupported, match=r"'c' has nothing at .*k_proj where 'a' has rank 4"):
        install([few, *pool("a")])


class Bowl(TinySession):
    """A loss with its minimum at chosen weights; remembers what it was asked."""

    def __init__(self, target: list[float], **options: Any) -> None:
        super().__init__(**options)
        self.target = torch.tensor(target, dtype=torch.float64)
        self.asked: list[tuple[str, int]] = []

    def loss(self, composed: Any, data: str, n: int) -> float:
        assert not composed.model.training
        self.asked.append((data, n))
        return 3.0 + float((composed.weights - self.target).square().sum())


TARGET = [0.8, -0.4, 0.1, 1.2]


@pytest.mark.parametrize(("mode", "asked"), [("per_task", ("task:a", 5)), ("pooled", ("routing", 20))])
def test_the_search_finds_the_minimum_within_its_budget(mode: str, asked: tuple[str, int]) -> None:
    session, composed = Bowl(TARGET), install()
    registry.create("lorahub", {"mode": mode, "l1": 0.0}).fit(composed, session)
    assert session.asked == [asked] * 40
    assert composed.weights.tolist() == pytest.approx(TARGET, abs=0.1)
    first, *_, last = session.notes
    assert first["weights"] == [0, 0, 0, 0]
    assert last["phase"] == "found"
    assert last["resolved"] == "Cobyla"
    assert last["weights"] == composed.weights.tolist()
    assert composed.state()["weights"].tolist() == composed.weights.tolist()


@pytest.mark.parametrize(
    ("overrides", "n", "divisor"),
    [({}, 5, 1), ({"loss_div": "examples"}, 5, 5), ({"loss_div": "examples", "mode": "pooled", "examples": 3}, 12, 12)],
)
def test_the_objective_is_loss_and_penalty(
    overrides: dict[str, Any], n: int, divisor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, values = [np.zeros(4), np.array([0.5, -1.0, 0.0, 1.5])], []

    def try_points(objective: Callable[[np.ndarray], float], *_: Any) -> tuple[np.ndarray, dict[str, str]]:
        values.extend(objective(point) for point in points)
        return points[1], {}

    monkeypatch.setattr("methods.lorahub.search", try_points)
    session, composed = Bowl(TARGET), install()
    registry.create("lorahub", {"l1": 0.2, **overrides}).fit(composed, session)
    losses = [3.0 + sum((v - t) ** 2 for v, t in zip(point, TARGET, strict=True)) for point in points]
    assert values == pytest.approx([losses[0] / divisor, losses[1] / divisor + 0.2 * 3.0 / 4])
    assert [asked for _, asked in session.asked] == [n, n]
    assert composed.weights.tolist() == points[1].tolist()


def test_weights_stay_within_bounds() -> None:
    composed, session = install(), Bowl([9.0, -9.0, 9.0, -9.0])
    registry.create("lorahub", {"bound": 0.5}).fit(composed, session)
    seen = np.array([note["weights"] for note in session.notes])
    assert 0.45 < np.abs(seen).max() <= 0.5


def test_a_diverged_loss_does_not_stop_the_search() -> None:
    def objective(w: np.ndarray) -> float:
        return DIVERGED if w[0] > 0.5 else float((w + 0.5) @ (w + 0.5))

    best, _ = search(objective, 3, LorahubConfig(), seed=0)
    assert best == pytest.approx([-0.5, -0.5, -0.5], abs=0.2)


def test_searches_repeat() -> None:
    one, two = ([search(lambda w: float(np.cos(3 * w).sum()), 2, LorahubConfig(), seed=1)[0]] for _ in range(2))
    assert np.array_equal(one, two)


def test_identity_of_the_task_follows_the_mode() -> None:
    per_task, pooled = (registry.create("lorahub", {"mode": mode}) for mode in ("per_task", "pooled"))
    assert per_task.uses_task_identity
    assert per_task.per_task()
    assert not pooled.uses_task_identity
    assert not pooled.per_task()
    with pytest.raises(RuntimeError, match="names none"):
        per_task.fit(install(), TinySession(task=None))


def test_another_optimizer_is_checked_by_name() -> None:
    config = tiny_llama().config
    registry.create("lorahub", {"optimizer": "OnePlusOne"}).check(config, "abc")
    with pytest.raises(Unsupported, match="nevergrad has no optimizer 'Adam'"):
        registry.create("lorahub", {"optimizer": "Adam"}).check(config, "abc")


def test_sizes_count_the_merge_and_the_weights() -> None:
    one = sum(f.A.numel() + f.B.numel() for f in pool("a")[0].sites.values())
    composed = install()
    assert composed.stored() == {"merged": one, "searched": 4}
    assert composed.groups() == {}
