"""A finished run and a finished ablation of a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.runs.command import TINY, call


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished run of two methods on one task, `run`, with its stages beside it."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(folder / "stages"))
        assert call("run", "--methods", "base,mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                    "--output", str(folder / "run")) == 0  # fmt: skip
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to be changed."""
    import shutil

    monkeypatch.setenv("HARNESS_STAGES", str(home / "stages"))
    shutil.copytree(home / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="package")
def ablation(home: Path, tiny_model: Path) -> Path:
    """A finished ablation: several configurations with a label each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(home / "stages"))
        assert call("ablate", "rank", *TINY[:2], "--methods", "mixer", "--tasks", "sst2", "--limit", "4",
                    "--experts", "sst2,mrpc,arc,gsm8k", "--model", str(tiny_model), "--set", "experts.tokens=300",
                    "--set", "routers.tokens=200", "--output", str(home / "ablation")) == 0  # fmt: skip
    return home / "ablation"
