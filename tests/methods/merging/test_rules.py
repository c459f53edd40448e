"""Merges by singular vectors: their low-rank path against the formulas written densely, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Expert, SiteFactors
from methods.merging.rules import Part
from methods.merging.scaled import ScaledMerge
from methods.merging.sparse import disjoint_mean, drop
from methods.merging.updates import balanced
from methods.seeding import generator

SITE = "site"
LIKE = torch.empty(10, 12, dtype=torch.float64)
RULES: list[tuple[str, dict[str, Any]]] = [
    ("task-arithmetic", {}),
    ("iso-c", {}),
    ("tsv", {}),
    ("tsv", {"k": 2}),
    ("knots", {}),
    ("knots", {"density": 1.0}),
    ("knots", {"merge": "dare-ties"}),
    ("core-space", {}),
    ("core-space", {"merge": "ties"}),
    ("core-space", {"merge": "iso-c"}),
    ("core-space", {"merge": "mean"}),
    ("core-space", {"merge": "task-arithmetic"}),
]
IDS = [registry.display(*rule) for rule in RULES]


@pytest.fixture
def pool(factors: Callable[..., SiteFactors]) -> dict[str, SiteFactors]:
    """Three experts of rank 3 and unequal scales; together their rank is 9, below that of the matrices."""
    return {
        name: factors(scale=scale, seed=i) for i, (name, scale) in enumerate(zip("abc", (2.0, 0.5, -1.0), strict=True))
    }


def merged(name: str, overrides: dict[str, Any], pool: dict[str, SiteFactors], like: Tensor = LIKE) -> Tensor:
    """The dense update that a method makes of a pool, without lambda."""
    method = registry.create(name, overrides)
    assert isinstance(method, ScaledMerge)
    experts = [Expert(expert, {SITE: f}) for expert, f in pool.items()]
    found = method.merger(torch.nn.Module(), experts, 0)(SITE, like)
    assert isinstance(found, SiteFactors)
    assert found.A.shape[0] <= sum(f.A.shape[0] for f in pool.values()), "the merge is no low-rank one"
    return found.scale * found.B @ found.A


def truncated(M: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(M)
    return U[:, :k], S[:k], Vh[:k]


def dense_iso(updates: Sequence[Tensor], rank: int) -> Tensor:
    U, S, Vh = truncated(torch.stack(list(updates)).sum(0), rank)
    return S.mean() * U @ Vh


def dense_tsv(updates: Sequence[Tensor], k: int) -> Tensor:
    """Whitening as `X (X^T X)^(-1/2)`, another way to the solution of Procrustes."""
    triplets = [truncated(update, k) for update in updates]

    def white(X: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(X.T @ X)
        return X @ vectors @ torch.diag(values**-0.5) @ vectors.T

    U, V = white(torch.cat([u for u, _, _ in triplets], 1)), white(torch.cat([vh.T for _, _, vh in triplets], 1))
    return U @ torch.diag(torch.cat([s for _, s, _ in triplets])) @ V.T


def largest(M: Tensor, count: int) -> Tensor:
    order = M.flatten().abs().argsort(descending=True)[:count]
    kept = torch.zeros(M.numel(), dtype=M.dtype)
    kept[order] = M.flatten()[order]
    return kept.view_as(M)


def dense_knots(updates: Sequence[Tensor], rank: int, thin: Callable[[int, Tensor], Tensor]) -> Tensor:
    """The SVD of the concatenated dense updates; its singular vectors' signs are shared and cancel."""
    U, S, Vh = torch.linalg.svd(torch.cat(list(updates), 1), full_matrices=False)
    blocks = (S[:rank, None] * Vh[:rank]).split(updates[0].shape[1], 1)
    return U[:, :rank] @ disjoint_mean(torch.stack([thin(i, block) for i, block in enumerate(blocks)]), "zero")


def test_task_arithmetic_is_the_sum(pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor]) -> None:
    total = torch.stack([update(f) for f in pool.values()]).sum(0)
    assert torch.allclose(merged("task-arithmetic", {}, pool), total, atol=1e-12)


def test_iso_c_is_the_dense_formula(pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor]) -> None:
    updates = [update(f) for f in pool.values()]
    assert torch.allclose(merged("iso-c", {}, pool), dense_iso(updates, 9), atol=1e-10)
    singular = torch.linalg.svdvals(merged("iso-c", {}, pool))
    assert torch.allclose(singular[:9], singular[0].expand(9), atol=1e-10)
    assert float(singular[9]) < 1e-10


@pytest.mark.parametrize("k", [1, 2, 3])
def test_tsv_is_the_dense_formula(
    pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor], k: int
) -> None:
    updates = [update(f) for f in pool.values()]
    assert torch.allclose(merged("tsv", {"k": k}, pool), dense_tsv(updates, k), atol=1e-10)


def test_tsv_keeps_a_share_of_the_rank(pool: dict[str, SiteFactors]) -> None:
    """Rank 3 over three experts is one triplet each, so that the merge is as large as one expert."""
    assert torch.equal(merged("tsv", {}, pool), merged("tsv", {"k": 1}, pool))
    assert int(torch.linalg.matrix_rank(merged("tsv", {}, pool))) == 3


def test_knots_is_the_dense_formula(pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor]) -> None:
    updates, names = [update(f) for f in pool.values()], list(pool)
    for density in (0.2, 0.7, 1.0):
        count = int(density * 9 * 12)
        expected = dense_knots(updates, 9, lambda _, block, count=count: largest(block, count))
        assert torch.allclose(merged("knots", {"density": density}, pool), expected, atol=1e-10)
    expected = dense_knots(updates, 9, lambda i, block: drop(block, 0.5, generator("knots", 0, names[i], SITE)))
    assert torch.allclose(merged("knots", {"merge": "dare-ties"}, pool), expected, atol=1e-10)


def test_knots_of_everything_is_no_longer_linear(pool: dict[str, SiteFactors]) -> None:
    """A negative control: signs are elected among coordinates, not among weights."""
    sparse = disjoint_mean(torch.stack([f.scale * f.B @ f.A for f in pool.values()]), "plus")
    assert not torch.allclose(merged("knots", {"density": 1.0}, pool), sparse, atol=1e-2)


def core(pool: dict[str, SiteFactors]) -> tuple[Tensor, list[Tensor], Tensor]:
    """Bases from eigenvectors of the Gram matrices, and the core matrices."""
    parts: list[Part] = [balanced(f, LIKE) for f in pool.values()]
    _, out = torch.linalg.eigh(sum(B @ B.T for _, B in parts))  # type: ignore[arg-type]
    _, into = torch.linalg.eigh(sum(A.T @ A for A, _ in parts))  # type: ignore[arg-type]
    U, V = out.flip(1)[:, :9], into.flip(1)[:, :9]
    return U, [U.T @ B @ A @ V for A, B in parts], V


def test_core_space_loses_nothing(pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor]) -> None:
    U, cores, V = core(pool)
    for f, M in zip(pool.values(), cores, strict=True):
        assert torch.allclose(U @ M @ V.T, update(f), atol=1e-10)


def test_ties_in_core_space_is_the_dense_formula(pool: dict[str, SiteFactors]) -> None:
    U, cores, V = core(pool)
    for density in (0.2, 0.6, 1.0):
        thinned = torch.stack([largest(M, int(density * 81)) for M in cores])
        expected = U @ disjoint_mean(thinned, "zero") @ V.T
        found = merged("core-space", {"merge": "ties", "density": density}, pool)
        assert torch.allclose(found, expected, atol=1e-10)


def test_what_does_not_depend_on_a_basis_is_the_same_in_core_space(pool: dict[str, SiteFactors]) -> None:
    equal = [
        (("core-space", {"merge": "iso-c"}), ("iso-c", {})),
        (("core-space", {"merge": "task-arithmetic"}), ("task-arithmetic", {})),
        (("core-space", {"merge": "tsv"}), ("tsv", {"k": 3})),
        (("core-space", {"merge": "tsv", "k": 1}), ("tsv", {"k": 1})),
    ]
    for one, other in equal:
        assert torch.allclose(merged(*one, pool), merged(*other, pool), atol=1e-10), one
    mean = merged("task-arithmetic", {}, pool) / 3
    assert torch.allclose(merged("core-space", {"merge": "mean"}, pool), mean, atol=1e-10)
    assert not torch.allclose(merged("core-space", {"merge": "ties"}, pool), mean, atol=1e-2)


@pytest.mark.parametrize(("name", "overrides"), RULES, ids=IDS)
def test_the_order_of_experts_does_not_matter(
    name: str, overrides: dict[str, Any], pool: dict[str, SiteFactors]
) -> None:
    turned = dict(reversed(pool.items()))
    assert torch.allclose(merged(name, overrides, pool), merged(name, overrides, turned), atol=1e-10)


@pytest.mark.parametrize(("name", "overrides"), RULES, ids=IDS)
def test_a_merge_scales_with_its_updates(name: str, overrides: dict[str, Any], pool: dict[str, SiteFactors]) -> None:
    larger = {expert: SiteFactors(f.A, f.B, 3 * f.scale) for expert, f in pool.items()}
    assert torch.allclose(merged(name, overrides, larger), 3 * merged(name, overrides, pool), atol=1e-9)


@pytest.mark.parametrize(("name", "overrides"), RULES, ids=IDS)
def test_only_the_update_matters_not_its_factors(
    name: str, overrides: dict[str, Any], pool: dict[str, SiteFactors]
) -> None:
    """A rotation of the factors' basis changes nothing, unlike in `lego` or PEFT's `ties`."""
    Q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    rotated = {expert: SiteFactors(Q @ f.A, f.B @ Q.T, f.scale) for expert, f in pool.items()}
    assert torch.allclose(merged(name, overrides, rotated), merged(name, overrides, pool), atol=1e-9)


ITSELF: list[tuple[str, dict[str, Any]]] = [
    ("task-arithmetic", {}),
    ("tsv", {"k": 3}),
    ("knots", {"density": 1.0}),
    ("knots", {"merge": "dare-ties", "drop": 0.0}),
    ("core-space", {}),
    ("core-space", {"merge": "ties", "density": 1.0}),
    ("core-space", {"merge": "mean"}),
]


@pytest.mark.parametrize(("name", "overrides"), ITSELF, ids=[registry.display(*one) for one in ITSELF])
def test_one_expert_alone_is_itself(
    name: str, overrides: dict[str, Any], pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor]
) -> None:
    alone = {"a": pool["a"]}
    assert torch.allclose(merged(name, overrides, alone), update(pool["a"]), atol=1e-10)


@pytest.mark.parametrize(("name", "overrides"), ITSELF, ids=[registry.display(*one) for one in ITSELF])
def test_equal_experts_are_that_expert(
    name: str, overrides: dict[str, Any], pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor]
) -> None:
    """Three times it for a sum. In core space the core's rank of 3 is shared by three, so `tsv` keeps one triplet."""
    copies = dict.fromkeys("xyz", pool["a"])
    expected = update(pool["a"]) * (3 if name == "task-arithmetic" else 1)
    if (name, overrides) == ("core-space", {}):
        U, S, Vh = truncated(expected, 1)
        expected = S * U @ Vh
    assert torch.allclose(merged(name, overrides, copies), expected, atol=1e-9)


def test_iso_c_of_one_or_equal_experts_is_flat(
    pool: dict[str, SiteFactors], update: Callable[[SiteFactors], Tensor]
) -> None:
    U, S, Vh = truncated(update(pool["a"]), 3)
    assert torch.allclose(merged("iso-c", {}, {"a": pool["a"]}), S.mean() * U @ Vh, atol=1e-10)
    copies = dict.fromkeys("xyz", pool["a"])
    assert torch.allclose(merged("iso-c", {}, copies), 3 * S.mean() * U @ Vh, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("task-arithmetic", {}), ("tsv", {"k": 2}), ("core-space", {"k": 2}), ("core-space", {"merge": "tsv"})],
)
def test_orthogonal_experts_do_not_interfere(name: str, overrides: dict[str, Any]) -> None:
    """Nothing of either side is shared, so there is nothing to whiten, and the merge is the sum."""
    eye = torch.eye(12, dtype=torch.float64)
    apart = {
        expert: SiteFactors(eye[2 * i : 2 * i + 2], eye[:10, 2 * i : 2 * i + 2] * (i + 1), 1.5)
        for i, expert in enumerate("abc")
    }
    total = torch.stack([f.scale * f.B @ f.A for f in apart.values()]).sum(0)
    assert torch.allclose(merged(name, overrides, apart), total, atol=1e-10)


@pytest.mark.parametrize(("name", "overrides"), RULES, ids=IDS)
def test_more_ranks_than_dimensions(name: str, overrides: dict[str, Any], factors: Callable[..., SiteFactors]) -> None:
    """Five experts of rank 3 in a matrix of 10 by 12, and a zero expert among them."""
    crowd = {name: factors(seed=i) for i, name in enumerate("abcd")}
    crowd["z"] = SiteFactors(torch.zeros(3, 12, dtype=torch.float64), torch.zeros(10, 3, dtype=torch.float64), 1.0)
    found = merged(name, overrides, crowd)
    assert bool(found.isfinite().all())
    assert torch.allclose(found, merged(name, overrides, dict(reversed(crowd.items()))), atol=1e-9)


CUT = [rule for rule in RULES if "iso-c" not in registry.display(*rule)]


@pytest.mark.parametrize(("name", "overrides"), CUT, ids=[registry.display(*rule) for rule in CUT])
def test_a_rank_cuts_the_merge(name: str, overrides: dict[str, Any], pool: dict[str, SiteFactors]) -> None:
    U, S, Vh = truncated(merged(name, overrides, pool), 2)
    assert torch.allclose(merged(name, {**overrides, "rank": 2}, pool), U * S @ Vh, atol=1e-9)


def test_a_flat_spectrum_cannot_be_cut() -> None:
    for name, overrides in (("iso-c", {"rank": 2}), ("core-space", {"merge": "iso-c", "rank": 2})):
        with pytest.raises(ValueError, match=r"leave rank out|no configuration key 'rank'"):
            registry.create(name, overrides)


@pytest.mark.parametrize(("name", "overrides"), RULES, ids=IDS)
def test_a_model_s_type_decides_no_trimming(
    name: str, overrides: dict[str, Any], factors: Callable[..., SiteFactors]
) -> None:
    """A threshold is crossed or not: one entry on its other side would show in float32, so all is done in float64."""
    large = {expert: factors(200, 150, 8, seed=i) for i, expert in enumerate("abc")}
    wide, narrow = (
        merged(name, overrides, large, torch.empty(150, 200, dtype=t)) for t in (torch.float64, torch.float32)
    )
    assert narrow.dtype == torch.float32
    assert float((narrow - wide).norm() / wide.norm()) < 1e-6
