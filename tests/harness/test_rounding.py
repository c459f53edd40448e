"""What products of float32 may be rounded to: a key, part of every name, and of no other run's arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.models import rounding
from harness.planning.sections import ModelSection
from results.store import RunFolder
from tests.harness.runs.command import TINY, call

MEDIUM = ["--set", "model.float32_matmul_precision=medium"]


def test_a_run_says_what_it_rounds_and_shares_no_stage_with_one_that_does_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    run = ["run", "--methods", "uniform,mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model)]
    assert call(*run, "--output", str(tmp_path / "exact")) == 0
    assert call(*run, *MEDIUM, "--output", str(tmp_path / "rounded")) == 0
    assert torch.get_float32_matmul_precision() == "highest"
    exact, rounded = (RunFolder.open(tmp_path / name).records() for name in ("exact", "rounded"))
    assert {one.status for one in (*exact, *rounded)} == {"done"}
    assert {one.model.dtype for one in rounded} == {"float32, medium matmul precision"}
    assert {one.spec.dtype for one in rounded} == {"float32, medium matmul precision"}
    assert {one.model.dtype for one in exact} == {"float32"}
    assert not {one.cell for one in exact} & {one.cell for one in rounded}
    made = {kind: len(list((tmp_path / "stages" / kind).glob("*/DONE"))) for kind in ("expert", "composed", "outputs")}
    assert made == {"expert": 2 * 3, "composed": 2 * 1, "outputs": 2 * 2}


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_it_holds_inside_and_ends_with_it(precision: str) -> None:
    section = ModelSection(name="any", float32_matmul_precision=precision)
    with rounding(section):
        assert torch.get_float32_matmul_precision() == precision
    assert torch.get_float32_matmul_precision() == "highest"


def test_at_its_default_it_names_nothing_anew() -> None:
    exact = ModelSection(name="any", float32_matmul_precision="highest")
    assert exact.model_dump() == ModelSection(name="any").model_dump()
    assert exact.arithmetic == "float32"


@pytest.mark.parametrize("wrong", ["model.float32_matmul_precision=low", "model.dtype=bfloat16"])
def test_what_cannot_be_rounded_is_refused_in_a_sentence(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, *MEDIUM, "--set", wrong, "--plan") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "float32_matmul_precision" in line
