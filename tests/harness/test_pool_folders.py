"""`harness pool` writes a folder of experts, and `--experts` takes it whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.engine import Engine, Wait
from harness.planning.options import configuration
from harness.planning.plan import Plan
from harness.planning.pools import with_pools
from harness.planning.sources import open_source
from harness.sharing import pool as growing
from results.ground.digest import digest
from results.ground.errors import HarnessError
from results.pools import read_pool
from results.stages import Stages
from results.store import RunFolder
from tests.harness.runs.command import call

REFERENCE = Path("results/reference")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("pools")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(folder / "stages"))
        assert call("pool", "--experts", "sst2,arc", "--model", str(tiny_model), "--rank", "2", "--tokens", "400,800",
                    "--rates", "1e-3,1e-2", "--dev-rows", "8", "--output", str(folder / "pool")) == 0  # fmt: skip
    return folder / "pool"


@pytest.mark.assets
class TestFolder:
    def test_it_says_how_every_expert_was_made(self, pool: Path) -> None:
        said = read_pool(pool)
        assert (said.rank, said.alpha, [one.name for one in said.experts]) == (2, 4.0, ["sst2", "arc"])
        assert said.experts[1].tasks == ["arc-c", "arc-e"]
        for one in said.experts:
            assert [trial.budget for trial in one.trials] == [400, 400, 800]
            assert one.rate == min(one.trials[:2], key=lambda trial: trial.dev_loss or 0).rate
            assert one.dev_loss < one.base_loss
            assert f"| {one.name} |" in (pool / "README.md").read_text()

    def test_weights_are_rounded_and_what_is_stored_is_what_was_judged(self, pool: Path) -> None:
        said = read_pool(pool)
        for one in said.experts:
            weights = load_file(pool / one.name / "adapter_model.safetensors")
            assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
            chosen = next(t for t in one.trials if t.rate == one.rate and t.tokens == one.tokens)
            assert one.dev_loss == pytest.approx(chosen.dev_loss, rel=1e-2)

    def test_peft_reads_it(self, pool: Path, tiny_model: Path) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(pool / "arc"))

    def test_a_second_call_adds_what_is_missing_and_touches_nothing_else(
        self, pool: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HARNESS_STAGES", str(pool.parent / "stages"))
        before = {path: path.stat().st_mtime_ns for path in pool.rglob("*")}
        arguments = ["--model", str(tiny_model), "--rates", "1e-3,1e-2", "--tokens", "400,800", "--output", str(pool)]
        assert call("pool", "--experts", "sst2,arc", *arguments, "--rank", "2") == 0
        assert {path: path.stat().st_mtime_ns for path in pool.rglob("*")} == before
        for other in (["--rank", "4"], ["--rank", "2", "--gain", "0.5"], ["--rank", "2", "--seed", "1"]):
            assert call("pool", "--experts", "sst2,mrpc", *arguments, *other) == 2, "pool.json says it once for all"

    def test_what_ends_early_leaves_nothing_that_hinders_the_next_call(
        self, pool: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(pool.parent / "stages", tmp_path / "stages")
        monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
        output = tmp_path / "pool"
        line = ["pool", "--experts", "sst2", "--model", str(tiny_model), "--rank", "2", "--tokens", "400,800",
                "--rates", "1e-3,1e-2", "--dev-rows", "8", "--output", str(output)]  # fmt: skip
        with Stages(tmp_path / "stages").claim(growing.POOL_CLAIM, digest(str(output.resolve()))) as mine:
            assert mine
            assert call(*line) == 2, "another process grows it"
        rounded = growing.store_rounded
        with monkeypatch.context() as patch:

            def killed(expert: Path, folder: Path) -> None:
                rounded(expert, folder)
                raise KeyboardInterrupt

            patch.setattr(growing, "store_rounded", killed)
            assert call(*line) not in (0, 2), "ended while it judged what it had rounded"
        (output / "failures.log").touch()
        assert call(*line) == 0
        assert read_pool(output).experts == read_pool(pool).experts[:1]

    def test_a_run_takes_it_whole(self, pool: Path, tiny_model: Path) -> None:
        config = configuration("smoke", {"experts": [str(pool)], "model": str(tiny_model)})
        assert list(config.experts.names) == ["sst2", "arc"]
        assert config.experts.paths == {name: str(pool / name) for name in ("sst2", "arc")}
        mixed = configuration("smoke", {"experts": [str(pool), "gsm8k"], "model": str(tiny_model)})
        assert list(mixed.experts.names) == ["sst2", "arc", "gsm8k"]
        with pytest.raises(HarnessError, match="sst2 twice"):
            configuration("smoke", {"experts": [str(pool), "sst2"]})

    def test_what_draws_and_fits_nothing_is_computed_once_for_all_seeds_and_decides_with_one(
        self, pool: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
        shutil.copytree(pool.parent / "stages", tmp_path / "stages")
        line = ["--preset", "smoke", "--model", str(tiny_model), "--methods", "base,uniform,mole", "--tasks", "sst2",
                "--seeds", "0,1", "--limit", "8"]  # fmt: skip
        assert call("run", *line, "--experts", str(pool), "--output", str(tmp_path / "brought")) == 0
        records = RunFolder.open(tmp_path / "brought").records()
        settled = {record.spec.method for record in records if record.extra.get("settled")}
        assert settled == {"base", "uniform"}
        behind: dict[str, set[str]] = {}
        for cell, record in zip(RunFolder.open(tmp_path / "brought").info.cells, records, strict=True):
            behind.setdefault(record.spec.method, set()).update(
                one for one in cell.stages if one.startswith("outputs/")
            )
        assert {method: len(found) for method, found in behind.items()} == {"base": 1, "uniform": 1, "mole": 2}

    @pytest.mark.parametrize("drawn", [{"eval.shots": 2}, {"eval.temperature": 0.5}])
    def test_seeds_are_told_apart_where_examples_or_answers_are_drawn(
        self, pool: Path, tiny_model: Path, drawn: dict[str, float]
    ) -> None:
        config = configuration("smoke", {"model": str(tiny_model), "methods": ["base", "uniform"], "seeds": [0, 1],
                                         "tasks": ["gsm8k"], "experts": [str(pool)], "settings": drawn})  # fmt: skip
        cells = Plan(config, open_source(config.data)).cells
        assert not any(cell.settled for cell in cells)
        assert len({cell.outputs_key for cell in cells}) == 4

    def test_seeds_are_told_apart_where_experts_are_trained_here(self, tiny_model: Path) -> None:
        config = configuration("smoke", {"model": str(tiny_model), "methods": ["base", "uniform"], "seeds": [0, 1],
                                         "tasks": ["sst2"], "experts": ["sst2", "arc"]})  # fmt: skip
        cells = Plan(config, open_source(config.data)).cells
        assert len({cell.compose_key for cell in cells if cell.spec.method == "base"}) == 1
        assert len({cell.compose_key for cell in cells if cell.spec.method == "uniform"}) == 2


def test_an_expert_that_another_process_trains_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Wait("expert", "key", "the expert sst2"), None]
    monkeypatch.setattr(Engine, "train_expert", lambda *_: answers.pop(0))
    monkeypatch.setattr("harness.engine.time.sleep", lambda _: None)
    engine: Engine = object.__new__(Engine)
    engine.settle_expert(None, None)  # type: ignore[arg-type]
    assert answers == []


def test_the_name_of_an_expert_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "pool.json").touch()
    monkeypatch.chdir(tmp_path)
    assert with_pools({"experts": {"names": ["sst2"]}}) == {"experts": {"names": ["sst2"]}}
    with pytest.raises(HarnessError, match=r"pool\.json"):
        with_pools({"experts": {"names": ["./sst2"]}})


@pytest.mark.parametrize("folder", sorted(path.parent for path in REFERENCE.glob("*/pool/pool.json")), ids=str)
def test_a_reference_pool_says_how_it_was_made(folder: Path) -> None:
    """Whether rates were chosen, of how many trials."""
    said = read_pool(folder)
    assert (folder / "README.md").read_text() == growing.page(said)
    chosen = any(len(one.trials) > 1 for one in said.experts)
    assert ("not chosen by trials" in growing.page(said)) != chosen


def test_a_model_without_a_reference_pool_is_told() -> None:
    with pytest.raises(HarnessError, match="no reference pool for elsewhere"):
        with_pools({"model": {"name": "elsewhere"}, "experts": {"names": ["reference"]}})


@pytest.mark.parametrize("damage", ["", "{", json.dumps({"version": 1})])
def test_a_damaged_pool_is_a_sentence(tmp_path: Path, damage: str) -> None:
    (tmp_path / "pool.json").write_text(damage)
    with pytest.raises(HarnessError, match=r"pool\.json"):
        with_pools({"experts": {"names": [str(tmp_path)]}})


@pytest.mark.parametrize(
    "options",
    [
        ["--tokens", "16,8"],
        ["--tokens", "many"],
        ["--rates", "0"],
        ["--gain", "1"],
        ["--experts", "elsewhere"],
    ],
)
def test_wrong_numbers_and_names_are_sentences(options: list[str], tmp_path: Path) -> None:
    assert call("pool", "--experts", "sst2", "--output", str(tmp_path / "pool"), *options) == 2
    assert not (tmp_path / "pool").exists()
