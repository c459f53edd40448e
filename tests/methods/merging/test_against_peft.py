"""The merges beside PEFT's `add_weighted_adapter` on equal weights (peft 0.21.2).

`cat`, `svd`, `ties_svd` and both `dare_*_svd` agree within 1e-5 in float32; the latter two given the same dropped
entries, since PEFT draws from the global generator. `linear` merges factors and is no merge of updates. Merges of
rsLoRA adapters are over-scaled by PEFT.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from torch import Tensor

from methods import registry
from methods.agreements import agreed
from methods.base import Expert, SiteFactors
from methods.experts import load_expert, save_expert
from methods.merging.composed import Merged
from methods.merging.sparse import drop
from methods.seeding import generator
from methods.tiny import TARGETS, tiny_experts, tiny_llama

NAMES = ("a", "b", "c")
SVD = pytest.mark.skipif(
    Version(version("peft")) < Version("0.21"), reason="PEFT before 0.21 multiplied updates by their scale twice"
)


@pytest.fixture
def experts() -> list[Expert]:
    """Of unequal scales, in float32."""
    pool = tiny_experts(tiny_llama(), NAMES)
    for i, expert in enumerate(pool):
        sites = {site: SiteFactors(f.A, f.B, 0.5 + i) for site, f in expert.sites.items()}
        pool[i] = Expert(expert.name, sites)
    return pool


@pytest.fixture
def peft_update(experts: list[Expert], tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Dense updates by site of a merge that PEFT makes with weights 1/3, or of given weights."""
    from peft import PeftModel

    for expert in experts:
        save_expert(expert, tmp_path / expert.name, base_model="tiny", target_modules=TARGETS)

    def merge(kind: str, weights: Any = (1 / 3, 1 / 3, 1 / 3), **options: Any) -> dict[str, Tensor]:
        model: Any = PeftModel.from_pretrained(tiny_llama(), str(tmp_path / NAMES[0]), adapter_name=NAMES[0])
        for name in NAMES[1:]:
            model.load_adapter(str(tmp_path / name), adapter_name=name)
        model.add_weighted_adapter(list(NAMES), list(weights), "merged", combination_type=kind, **options)
        prefix = "base_model.model."
        return {
            path.removeprefix(prefix): module.get_delta_weight("merged")
            for path, module in model.named_modules()
            if hasattr(module, "get_delta_weight")
        }

    return merge


def ours(name: str, overrides: dict[str, Any], experts: list[Expert]) -> dict[str, Tensor]:
    composed = registry.create(name, overrides).install(tiny_llama(), experts, seed=0)
    assert isinstance(composed, Merged)
    found = {site: composed.update(site) for site in composed.sites}
    return {site: u if isinstance(u, Tensor) else u.scale * u.B @ u.A for site, u in found.items()}


def gap(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert mine.keys() == theirs.keys()
    return max(float((mine[site] - theirs[site]).norm() / theirs[site].norm()) for site in mine)


@pytest.mark.parametrize(("kind", "options"), [("cat", {}), pytest.param("svd", {"svd_rank": 12}, marks=SVD)])
def test_exact_merges_are_the_mean(
    kind: str, options: dict[str, Any], experts: list[Expert], peft_update: Callable[..., dict[str, Tensor]]
) -> None:
    assert gap(ours("svd", {"rank": 12}, experts), peft_update(kind, **options)) < 1e-5


def test_task_arithmetic_is_a_concatenation(
    experts: list[Expert], peft_update: Callable[..., dict[str, Tensor]]
) -> None:
    mine = ours("task-arithmetic", {"scaling": 0.4}, experts)
    assert gap(mine, peft_update("cat", (0.4, 0.4, 0.4))) < agreed("task-arithmetic", "peft").output


@SVD
def test_truncated_svd_agrees(experts: list[Expert], peft_update: Callable[..., dict[str, Tensor]]) -> None:
    assert gap(ours("svd", {"rank": 4}, experts), peft_update("svd", svd_rank=4)) < agreed("svd", "peft").output
    weights = (0.7, -0.2, 0.1)
    mine = ours("svd", {"rank": 4, "weights": weights}, experts)
    assert gap(mine, peft_update("svd", weights, svd_rank=4)) < agreed("svd", "peft").output


@SVD
def test_ties_agrees(experts: list[Expert], peft_update: Callable[..., dict[str, Tensor]]) -> None:
    """With weights 1, since PEFT's mean of agreeing entries multiplies by the weights."""
    ones = (1.0, 1.0, 1.0)
    for rank in (3, 16):
        mine = ours("ties", {"rank": rank}, experts)
        assert gap(mine, peft_update("ties_svd", ones, svd_rank=rank, density=0.2)) < agreed("ties", "peft").output


@SVD
@pytest.mark.parametrize("combine", ["linear", "ties"])
def test_dare_agrees_when_the_same_entries_are_dropped(
    combine: str,
    experts: list[Expert],
    peft_update: Callable[..., dict[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peft.utils import merge_utils

    names = [(name, site) for site in experts[0].sites for name in NAMES]
    order = iter(names)

    def same_drop(tensor: Tensor, density: float, rescale: bool) -> Tensor:
        name, site = next(order)
        assert rescale
        return drop(tensor, 1 - density, generator("dare", 0, name, site))

    monkeypatch.setattr(merge_utils, "random_pruning", same_drop)
    weights = (1 / 3, 1 / 3, 1 / 3) if combine == "linear" else (1.0, 1.0, 1.0)
    theirs = peft_update(f"dare_{combine}_svd", weights, svd_rank=16, density=0.5)
    assert next(order, None) is None
    assert gap(ours("dare", {"combine": combine, "rank": 16}, experts), theirs) < agreed("dare", "peft").output


def test_merging_factors_is_something_else(
    experts: list[Expert], peft_update: Callable[..., dict[str, Tensor]]
) -> None:
    """PEFT's `linear` has cross terms B_n A_m; on factors drawn independently they outweigh the rest."""
    mean = ours("svd", {"rank": 12}, experts)
    assert gap(mean, peft_update("linear")) > 0.5
    assert gap(ours("ties", {}, experts), peft_update("ties", (1.0, 1.0, 1.0), density=0.2)) > 0.5


def test_rslora_is_scaled_once(
    experts: list[Expert], peft_update: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    """A bug of PEFT explains the difference: the merged adapter is rsLoRA again, so its update is multiplied by the
    root of its new rank, here 12. Ours is the mean of the updates that the adapters have on their own."""
    for name in NAMES:
        path = tmp_path / name / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"use_rslora": True}))
    rooted = [load_expert(name, tmp_path / name) for name in NAMES]
    for before, after in zip(experts, rooted, strict=True):
        assert all(after.sites[site].scale == pytest.approx(4**0.5 * f.scale) for site, f in before.sites.items())
    mine, theirs = ours("svd", {"rank": 12}, rooted), peft_update("cat")
    assert gap({site: 12**0.5 * update for site, update in mine.items()}, theirs) < 1e-5
