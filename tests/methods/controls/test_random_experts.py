"""Random experts: as large as the trained ones wherever those are, and otherwise nothing of them."""

from __future__ import annotations

import pytest
import torch

from methods.base import Expert, SiteFactors
from methods.conformance import CHECKS_OF_AN_ARCHITECTURE, Subject
from methods.random_experts import random_twin, update_norm
from methods.tiny import tiny_experts, tiny_model, uneven_experts


def pool(dtype: torch.dtype = torch.float64) -> list[Expert]:
    return uneven_experts(tiny_experts(tiny_model("llama", dtype=dtype)))


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_every_site_keeps_its_shapes_and_the_norm_of_its_update(dtype: torch.dtype, relative: float) -> None:
    for expert in pool(dtype):
        twin = random_twin(expert, seed=3)
        assert twin.name == expert.name
        assert list(twin.sites) == list(expert.sites)
        for path, own in twin.sites.items():
            given = expert.sites[path]
            assert (own.A.shape, own.B.shape, own.scale) == (given.A.shape, given.B.shape, given.scale)
            assert own.A.dtype == own.B.dtype == dtype
            expected = float((given.B.double() @ given.A.double()).norm())
            assert float((own.B.double() @ own.A.double()).norm()) == pytest.approx(expected, rel=relative)
            assert torch.linalg.matrix_rank(own.B.double() @ own.A.double()) == len(own.A)


def test_the_norm_is_computed_without_the_update() -> None:
    A, B = torch.randn(3, 7), torch.randn(5, 3)
    assert float(update_norm(A, B)) == pytest.approx(float((B.double() @ A.double()).norm()))


def test_an_update_of_nothing_stays_nothing() -> None:
    twin = random_twin(Expert("a", {"q": SiteFactors(torch.randn(2, 4), torch.zeros(4, 2), 1.0)}), seed=0)
    assert not (twin.sites["q"].B @ twin.sites["q"].A).any()


def test_the_seed_is_all_that_decides_the_directions() -> None:
    a, b = pool()[:2]

    def direction(expert: Expert, seed: int) -> torch.Tensor:
        factors = next(iter(random_twin(expert, seed).sites.values()))
        return torch.nn.functional.normalize((factors.B @ factors.A).flatten(), dim=0)

    assert torch.equal(direction(a, 0), direction(a, 0))
    larger = Expert(a.name, {path: SiteFactors(3 * f.A, f.B, f.scale) for path, f in a.sites.items()})
    assert torch.allclose(direction(larger, 0), direction(a, 0))
    for other in (direction(a, 1), direction(Expert("b", a.sites), 0)):
        assert abs(float(other @ direction(a, 0))) < 0.5
    assert random_twin(a, 0).digest != random_twin(a, 1).digest != a.digest
    assert random_twin(b, 0).digest != random_twin(a, 0).digest


class OverRandomExperts(Subject):
    """A method under test whose pool is random."""

    def experts(self, model: torch.nn.Module) -> list[Expert]:
        return [random_twin(expert, seed=0) for expert in super().experts(model)]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "t5"])
@pytest.mark.parametrize("name", ["mixer", "retrieval", "lorahub"])
def test_methods_do_on_a_random_pool_what_they_do_on_any(name: str, architecture: str) -> None:
    subject = OverRandomExperts(name, {}, architecture)
    for check in CHECKS_OF_AN_ARCHITECTURE:
        check(subject)
