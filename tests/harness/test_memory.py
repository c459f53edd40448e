"""What `--plan` says of memory: more for more, and near what runs were seen to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.facts import Facts
from harness.planning.config import resolve, validate
from harness.planning.plan import Plan
from harness.planning.sources import open_source
from results.store import RunFolder

pytestmark = pytest.mark.assets
REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def bytes_of(tiny_model: Path, *sets: str, methods: tuple[str, ...] = ("mixer",)) -> int:
    asked = {"model": {"name": str(tiny_model)}, "methods": list(methods), "tasks": ["sst2"]}
    plan = Plan(
        resolve("smoke", asked, ("experts.names=[sst2,mrpc,arc]", "routers.micro_batch_size=64", *sets)),
        open_source("bundled"),
    )
    return Facts(plan, "cpu").memory


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("routers.micro_batch_size=64", "routers.micro_batch_size=256"),
        ("experts.micro_batch_size=1", "experts.micro_batch_size=256"),
        ("routers.max_length=16", "routers.max_length=1024"),
        ("experts.rank=2", "experts.rank=64"),
    ],
)
def test_what_makes_a_step_wider_takes_more(tiny_model: Path, less: str, more: str) -> None:
    assert bytes_of(tiny_model, less) < bytes_of(tiny_model, more)


def test_what_trains_nothing_takes_no_more_than_its_experts_do(tiny_model: Path) -> None:
    wide = "routers.micro_batch_size=256"
    assert bytes_of(tiny_model, wide, methods=("uniform",)) < bytes_of(tiny_model, wide)
    assert bytes_of(tiny_model, wide, methods=("uniform",)) == bytes_of(tiny_model, methods=("uniform",))


@pytest.mark.parametrize("name", ["demo", "over-routers"])
def test_it_is_within_a_quarter_of_what_stored_runs_took(name: str) -> None:
    """Both were computed on a CPU, where the peak is the process' own."""
    folder = RunFolder.open(REFERENCE / name)
    config = resolve("demo", {}) if name == "demo" else validate(folder.info.variants[0].config)
    plan = Plan(config, open_source("bundled"))
    took = max(max(record.cost.peak_memory.values(), default=0) for record in folder.records())
    assert Facts(plan, "cpu").memory == pytest.approx(took, rel=0.25)
