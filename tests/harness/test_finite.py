"""What is not a number is never a score: fits, trials, adapters and evaluations end with a sentence instead."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints import Checkpoint
from harness.evaluation.sampling import likeliest
from harness.training.health import Health
from harness.training.tuning import tuned_fit
from results.ground.errors import NotFinite
from results.store import RunFolder
from tests.harness.runs.command import TINY, call

BAD = [math.nan, math.inf, -math.inf]
system = [pytest.mark.assets, pytest.mark.model]


@pytest.mark.parametrize("bad", BAD)
def test_a_loss_that_is_not_finite_names_the_step_the_last_healthy_one_and_the_rate(bad: float) -> None:
    health = Health({"experts.lr": 0.5}, 9)
    health.loss(1, {"task": 2.0, "loss": 2.25})
    with pytest.raises(NotFinite, match=r"\(task\).*step 2 of 9.*2\.25 at step 1.*experts\.lr \(now 0\.5\)"):
        health.loss(2, {"task": bad, "loss": bad})


@pytest.mark.parametrize("bad", BAD)
def test_a_gradient_or_a_weight_that_is_not_finite_ends_a_fit(bad: float) -> None:
    health = Health({"routers.lr": 1.0}, 3)
    with pytest.raises(NotFinite, match=r"gradient.*no healthy step.*routers\.lr"):
        health.gradient(1, bad)
    health.parameters([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(NotFinite, match="trained weight"):
        health.parameters([torch.nn.Parameter(torch.tensor([0.0, bad]))])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_token_is_the_likeliest_of_logits_that_are_not_finite(bad: float) -> None:
    logits = torch.tensor([[0.0, 1.0, -math.inf], [0.0, 2.0, bad]])
    assert likeliest(logits[:1]) == [1]
    with pytest.raises(NotFinite, match="1 of 2"):
        likeliest(logits)


class _Fit:
    """A method whose fit at scale `s` reaches a dev loss by rule; `fails` are scales that diverge in the fit."""

    def __init__(self, fails: tuple[float, ...] = ()) -> None:
        self.fails = fails
        self.value = 0.0

    def state(self) -> dict[str, float]:
        return {"value": self.value}

    def load_state(self, state: dict[str, float]) -> None:
        self.value = state["value"]

    def fit(self, composed: Any, session: Any) -> None:
        self.value = session.scale
        if session.scale in self.fails:
            raise NotFinite("The loss is not finite at step 1 of 1: lower routers.lr.")


class _Session:
    tokens = 7

    def __init__(self, scale: float, losses: dict[float, float]) -> None:
        self.scale, self.losses, self.kept = scale, losses, Checkpoint()

    def dev_loss(self, composed: Any, n: int) -> float:
        return self.losses[self.scale]


def tuned(fit: _Fit, losses: dict[float, float]) -> tuple[Any, list[dict[str, Any]]]:
    return tuned_fit(fit, fit, tuple(losses), lambda scale: _Session(scale, losses))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("bad", BAD)
def test_tuning_keeps_no_trial_that_is_not_finite(bad: float) -> None:
    fit = _Fit(fails=(3.0,))
    session, trials = tuned(fit, {1.0: bad, 2.0: 5.0, 3.0: 0.1})
    assert (session.scale, fit.value) == (2.0, 2.0)
    assert [trial["dev_loss"] for trial in trials] == [None, 5.0, None]
    assert [bool(trial.get("error")) for trial in trials] == [True, False, True]
    with pytest.raises(NotFinite, match="None of 2 trials"):
        tuned(_Fit(fails=(2.0,)), {1.0: bad, 2.0: 0.1})


class TestRuns:
    """Whole runs of a tiny model."""

    pytestmark = system

    @pytest.fixture
    def stages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
        return tmp_path / "stages"

    def run(self, tmp_path: Path, tiny_model: Path, *arguments: str) -> tuple[int, dict[tuple[str, str], Any]]:
        output = tmp_path / "run"
        code = call("run", *TINY, "--model", str(tiny_model), *arguments, "--output", str(output))
        found = RunFolder.open(output).records() if output.exists() else []
        return code, {(record.spec.method, record.spec.task): record for record in found}

    def test_a_rate_that_makes_everything_overflow_is_no_majority_answer(
        self, tmp_path: Path, tiny_model: Path, stages: Path
    ) -> None:
        code, records = self.run(
            tmp_path, tiny_model, "--methods", "base,lora", "--tasks", "sst2", "--set", "experts.lr=1e38"
        )
        assert code == 1
        assert records["base", "sst2"].status == "done"
        lora = records["lora", "sst2"]
        assert lora.status == "failed"
        assert "not finite" in lora.error
        assert "experts.lr (now 1e+38)" in lora.error
        assert not lora.metrics
        assert not list((stages / "expert").glob("*/DONE"))

    def test_routers_that_diverge_fail_their_own_cells(self, tmp_path: Path, tiny_model: Path, stages: Path) -> None:
        code, records = self.run(
            tmp_path, tiny_model, "--methods", "uniform,mixer", "--tasks", "sst2", "--set", "routers.lr=1e38"
        )
        assert code == 1
        assert records["uniform", "sst2"].status == "done"
        assert "routers.lr (now 1e+38)" in records["mixer", "sst2"].error

    @pytest.mark.parametrize(
        ("value", "words"), [(math.nan, "q_proj.lora_"), (math.inf, "q_proj.lora_"), (1e30, "not finite|no finite")]
    )
    @pytest.mark.parametrize("task", ["sst2", "gsm8k"])
    def test_an_adapter_with_such_a_factor_is_refused_by_name(
        self, value: float, words: str, task: str, tmp_path: Path, tiny_model: Path, stages: Path
    ) -> None:
        code, _ = self.run(tmp_path, tiny_model, "--methods", "lora", "--tasks", "sst2")
        assert code == 0
        (folder,) = (path.parent for path in (stages / "expert").glob("*/DONE"))
        brought = tmp_path / "brought"
        brought.mkdir()
        (brought / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
        tensors = load_file(folder / "adapter_model.safetensors")
        for name in sorted(tensors):
            if "q_proj" in name:
                tensors[name][0, 0] = value
        save_file(tensors, brought / "adapter_model.safetensors")
        output = tmp_path / "other"
        code = call("run", "--preset", "smoke", "--limit", "4", "--model", str(tiny_model), "--methods", "uniform",
                    "--tasks", task, "--experts", f"sst2={brought}", "--output", str(output))  # fmt: skip
        assert code == 1
        (record,) = RunFolder.open(output).records()
        assert (record.status, record.metrics) == ("failed", {})
        assert re.search(words, str(record.error))
