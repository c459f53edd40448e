"""What a run will write is known before it runs, and a store without room for it is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.planning.config import resolve
from harness.planning.room import RECORD, Room, require_room
from harness.planning.variants import Variant
from harness.runs import Run
from results.ground.damage import PlaceError
from tests.tasks.conftest import ROWS, write_rows

TASKS = ("sst2", "mrpc", "rte")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in TASKS:
        splits, make = ROWS["glue", name]
        for place, split in enumerate(splits):
            rows = [make(100 * place + i) for i in range(24)]
            write_rows(tmp_path / "data" / "glue" / name / f"{split}.jsonl", rows)
    return tmp_path / "data"


def planned(model: Path, data: Path, **changes: object) -> Run:
    asked = {"model": {"name": str(model)}, "data": str(data), "tasks": ["sst2"], "experts": {"names": list(TASKS)}}
    config = resolve("smoke", {**asked, "methods": ["mixer"], **changes})
    return Run.start([Variant(config)], data.parent / "run", fetch=False)


@pytest.mark.assets
@pytest.mark.model
def test_experts_routers_and_items_count_once(tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(data.parent / "stages"))
    one, two = (planned(tiny_model, data, methods=methods).room() for methods in (["uniform"], ["uniform", "mixer"]))
    plan = planned(tiny_model, data).plans[0]
    weights = 4 * sum(s.rank * (s.d_in + s.d_out) for s in plan.pool_expert("sst2").sites.values())
    assert weights > 0
    assert one.stages > 3 * (weights + RECORD)
    routers = two.stages - one.stages
    assert 0 < routers < 3 * weights + 3 * RECORD  # the pool is not counted again
    assert two.run == pytest.approx(2 * one.run)


def test_what_does_not_fit_is_refused_before_it_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 5 * 10**6, 5 * 10**6)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    stages, run = tmp_path / "not" / "there", tmp_path / "run"
    require_room(Room(2e6, 2e6), stages, run)
    with pytest.raises(PlaceError, match=r"will write about 6 MB and .*there has 5 MB free: free some space"):
        require_room(Room(3e6, 3e6), stages, run)  # together on one disk
    assert not list(tmp_path.iterdir())
