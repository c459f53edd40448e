"""The whole engine on a tiny Falcon-Mamba: experts, routers, evaluation; and what must not change for other models."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from harness import models
from harness.planning.config import resolve
from harness.planning.sections import RunConfig
from methods.seeding import drawing_from
from results.schema import Record
from results.store import RunFolder
from tests.harness.runs.command import printed
from tests.harness.tiny import WORDS, save

pytestmark = [pytest.mark.assets, pytest.mark.model]

METHODS = ("base", "lora", "uniform", "mixer", "phatgoose", "xlora", "ties")
PROJECTIONS = ("in_proj", "x_proj", "dt_proj", "out_proj")


@pytest.fixture(scope="module")
def tiny_falcon(tmp_path_factory: pytest.TempPathFactory, smollm_path: Path) -> Path:
    """Folder of a random two-layer Falcon-Mamba with the bundled model's tokenizer."""
    from transformers import FalconMambaConfig, FalconMambaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "tiny-falcon-mamba"
    with drawing_from(0):
        config = FalconMambaConfig(
            vocab_size=WORDS,
            hidden_size=32,
            state_size=4,
            num_hidden_layers=2,
            time_step_rank=4,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
        return save(FalconMambaForCausalLM(config), folder, smollm_path)


def run(methods: str, model: Path, folder: Path) -> CompletedProcess[str]:
    return printed(
        "run", "--methods", methods, "--preset", "smoke", "--tasks", "sst2,arc-e,gsm8k", "--limit", "4",
        "--set", "experts.names=[sst2,mrpc,arc]", "--set", "eval.max_new_tokens=8",
        "--model", str(model), "--output", str(folder / "run"), stages=folder / "stages",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_falcon: Path) -> Path:
    folder = tmp_path_factory.mktemp("falcon")
    done = run(",".join(METHODS), tiny_falcon, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def records(finished: Path) -> list[Record]:
    return RunFolder.open(finished / "run").records()


def test_every_cell_has_a_record(records: list[Record]) -> None:
    assert len(records) == 3 * len(METHODS)
    assert [record.status for record in records if record.spec.task != "gsm8k"] == ["done"] * 2 * len(METHODS)
    for record in records:
        # No expert of the pool serves gsm8k, so `lora` has no cell there.
        refused = record.spec.method == "lora" and record.spec.task == "gsm8k"
        assert record.status == ("refused" if refused else "done"), record.error


def test_routers_learn_at_all_four_projections(records: list[Record]) -> None:
    mixed = next(record for record in records if record.spec.method == "mixer")
    widths = 32 + 64 + 4 + 64
    assert sum(mixed.parameters.trainable.values()) == 2 * widths * 3
    assert mixed.routing is not None
    assert {module.rpartition(".")[2] for module in mixed.routing.modules} == set(PROJECTIONS)
    assert all(shift > 0 for shift in mixed.routing.per_module["logit_shift"])


def test_experts_are_trained_at_all_four_projections(finished: Path) -> None:
    from methods.experts import load_expert

    folders = [path.parent for path in (finished / "stages").rglob("adapter_config.json")]
    assert len(folders) == 3
    for folder in folders:
        assert set(json.loads((folder / "adapter_config.json").read_text())["target_modules"]) == set(PROJECTIONS)
        expert = load_expert("expert", folder)
        assert len(expert.sites) == 2 * len(PROJECTIONS)
        assert all(factors.B.abs().max() > 0 for factors in expert.sites.values())


@pytest.mark.parametrize("method", ["mixlora", "loramoe"])
def test_what_cannot_work_is_refused_before_anything_runs(method: str, tiny_falcon: Path, tmp_path: Path) -> None:
    done = run(method, tiny_falcon, tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "stages").exists()
    assert not (tmp_path / "run").exists()
    words = " ".join(done.stderr.split())
    assert method in words
    assert "falcon_mamba" in words
    assert words.count(". ") <= 1
    assert "Traceback" not in words


def test_a_method_that_cannot_work_ends_no_other(tiny_falcon: Path, tmp_path: Path) -> None:
    done = run("base,mixlora", tiny_falcon, tmp_path)
    assert done.returncode == 0, done.stderr
    records = RunFolder.open(tmp_path / "run").records()
    assert {record.status for record in records if record.spec.method == "base"} == {"done"}
    refused = [record for record in records if record.spec.method == "mixlora"]
    assert {record.status for record in refused} == {"refused"}
    assert all("falcon_mamba" in str(record.error) for record in refused)


def test_targets_follow_the_models_type(tiny_falcon: Path, tiny_model: Path) -> None:
    def resolved(model: Path, **experts: Any) -> RunConfig:
        return models.with_targets(resolve("smoke", {"model": {"name": str(model)}, "experts": experts}))

    assert resolved(tiny_falcon).experts.targets == PROJECTIONS
    assert resolved(tiny_model).experts.targets == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert resolved(tiny_falcon, target_modules=["in_proj"]).experts.targets == ("in_proj",)
    given = resolved(tiny_model, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    assert given.model_dump() == resolved(tiny_model).model_dump()
