"""The command line is ended in the middle of each kind of stage, given again, and ends with the same records."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoints import Checkpoint
from harness.interrupts import Ended
from harness.training.session import EngineSession
from results.store import RunFolder
from tests.harness.runs.command import TINY, printed

pytestmark = [pytest.mark.assets, pytest.mark.model]

STAGES = ("expert sst2 (seed 0)", "fit mixer (seed 0)", "mixer on gsm8k (seed 0)", "fit best-single (seed 0)")
SAID = "mixer on gsm8k (seed 0): goes on after "


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is told to end after the fifth checkpoint of each of these stages."""
    genuine, counts = Checkpoint.save, Counter[str]()

    def save(self: Checkpoint, state: Any) -> None:
        genuine(self, state)
        counts[self.what] += 1
        if self.what in STAGES and counts[self.what] == 5:
            raise Ended(15)

    monkeypatch.setattr(Checkpoint, "save", save)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every loss of a search that is computed."""
    genuine, found = EngineSession._mean_loss, list[int]()

    def mean_loss(self: EngineSession, composed: Any, rows: Any) -> float:
        found.append(len(rows))
        return genuine(self, composed, rows)

    monkeypatch.setattr(EngineSession, "_mean_loss", mean_loss)
    return found


def computed(stages: Path) -> dict[str, Any]:
    """All that was computed, but for times and memory."""
    found: dict[str, Any] = {}
    for path in sorted(stages.glob("*/*/*")):
        if path.suffix == ".json":
            data = json.loads(path.read_text())
            apart = ("seconds", "peak_memory", "peak_memory_bytes")
            found[str(path.relative_to(stages))] = {name: value for name, value in data.items() if name not in apart}
        elif path.suffix == ".safetensors":
            found[str(path.relative_to(stages))] = path.read_bytes()
    return found


def test_a_run_goes_on_inside_each_kind_of_stage(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: None, looked: list[int]
) -> None:
    sizes = [f"{section}.{size}" for section in ("experts", "routers") for size in ("batch_size=4", "tokens=1600")]
    line = ("run", "--methods", "mixer,best-single", "--tasks", "sst2,gsm8k", *TINY, "--model", str(tiny_model),
            "--tune", *(word for size in [*sizes, "eval.max_new_tokens=16"] for word in ("--set", size)))  # fmt: skip
    whole = printed(*line, "--output", str(tmp_path / "whole"), stages=tmp_path / "apart")
    assert whole.returncode == 0, whole.stderr
    in_all = len(looked)
    assert in_all > 5
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
    said = ""
    for name in STAGES:
        done = printed(*line, "--output", str(tmp_path / "run"), stages=tmp_path / "stages")
        assert done.returncode == 143, done.stderr
        assert f"{name}: interrupted after" in done.stderr
        said += done.stderr
    done = printed(*line, "--output", str(tmp_path / "run"), stages=tmp_path / "stages")
    assert done.returncode == 0, done.stderr
    assert SAID in said
    assert len(looked) == 2 * in_all, "a loss was computed twice"
    assert computed(tmp_path / "stages") == computed(tmp_path / "apart")
    one, other = (RunFolder.open(tmp_path / name).records() for name in ("run", "whole"))
    for record, same in zip(one, other, strict=True):
        assert (record.metrics, record.routing, record.cost.tokens) == (same.metrics, same.routing, same.cost.tokens)
    assert not list((tmp_path / "stages" / "partial").iterdir())
