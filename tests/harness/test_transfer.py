"""Experts and routers of one base on another of equal shapes, and models taken away from a run."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import methods
from harness.cli import main
from harness.engine import Engine
from harness.models import LoadedModels
from harness.planning.config import resolve
from harness.planning.plan import Plan
from harness.planning.sources import open_source
from harness.progress import Progress
from results.ground.errors import HarnessError, NotFinite
from results.ground.files import is_finished
from results.schema import RunInfo
from results.stages import Stages
from results.store import RunFolder

pytestmark = [pytest.mark.assets, pytest.mark.model]

SMALL = ["--preset", "smoke", "--tasks", "sst2,arc-e", "--set", "experts.names=[sst2,mrpc,arc]", "--limit", "6"]
METHODS = "base,lora,uniform,mixer,xlora[scope=prompt_fixed],multitask-lora"

# Of the smoke preset on the bundled model, before transfer existed: moving models must not move them.
KEYS = {
    ("base", "sst2"): ("085775d6ad122257", "1e43643a3475a552", "07aebce531d051a3"),
    ("lora", "arc-e"): ("06fae56fd20aaade", "aef65e3220e0fdeb", "6dd2fe178792c525"),
    ("uniform", "sst2"): ("432b9481ddce14e7", "4cc1febeb84bf612", "23bc724e9feee268"),
    ("mixer", "sst2"): ("f598e5caec770512", "e2bc8ae222588565", "5020b8f6e7b769d7"),
    ("mole", "arc-e"): ("016f75fd94e3e447", "3f4467c2b5b984dd", "6b742cccf38e1ce1"),
}


def plan(model: Path | str, chosen: str, **changes: Any) -> Plan:
    overrides: dict[str, Any] = {
        "methods": chosen.split(","), "tasks": ["sst2", "arc-e"], "model": {"name": str(model)},
    }  # fmt: skip
    return Plan(resolve("smoke", overrides, changes.pop("sets", [])), open_source("bundled"))


def run(*arguments: str, stages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    monkeypatch.setenv("HARNESS_STAGES", str(stages))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Another random model of the same shapes."""
    return reshaped(tiny_model, tmp_path_factory.mktemp("other") / "tiny-other")


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A random model with other key, value and feed-forward widths."""
    changes = {"num_key_value_heads": 4, "intermediate_size": 96}
    return reshaped(tiny_model, tmp_path_factory.mktemp("wide") / "tiny-wide", **changes)


def reshaped(model: Path, folder: Path, **changes: int) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    shutil.copytree(model, folder)
    config = AutoConfig.from_pretrained(model)
    config.update(changes)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished run on the first model, with its stages beside it."""
    folder = tmp_path_factory.mktemp("ran")
    arguments = ["run", "--methods", METHODS, *SMALL, "--model", str(tiny_model), "--output", str(folder / "run")]
    with pytest.MonkeyPatch.context() as patch:
        run(*arguments, stages=folder / "stages", monkeypatch=patch)
    return folder


def test_cells_that_move_nothing_keep_their_keys() -> None:
    cells = plan("smollm2-135m", "base,lora,uniform,mixer,mole").cells
    found = {(cell.spec.method, cell.spec.task): (cell.key, cell.compose_key, cell.outputs_key) for cell in cells}
    assert {key: found[key] for key in KEYS} == KEYS


def test_stages_are_keyed_by_where_they_come_from(tiny_model: Path, other_model: Path) -> None:
    theirs = {(c.spec.method, c.spec.task): c for c in plan(tiny_model, "base,lora,uniform,mixer").cells}
    plain = {(c.spec.method, c.spec.task): c for c in plan(other_model, "base,lora,uniform,mixer").cells}
    moved = plan(other_model, "base,lora,uniform,mixer", sets=[f"transfer.from={tiny_model}"])
    for cell in moved.cells:
        key = (cell.method.name, cell.spec.task)
        if cell.method.name == "base":
            assert (cell.spec, cell.outputs_key) == (plain[key].spec, plain[key].outputs_key)
            continue
        origin = theirs[key]
        assert cell.spec.method == f"{cell.method.name}[transfer.from={tiny_model}]"
        assert cell.compose_key == origin.compose_key != plain[key].compose_key
        assert cell.spec.pool == origin.spec.pool
        assert len({cell.outputs_key, origin.outputs_key, plain[key].outputs_key}) == 3
        assert len({cell.key, origin.key, plain[key].key}) == 3
        assert cell.spec.training["base"]["name"] == str(tiny_model)
        assert cell.spec.model == str(other_model)


def test_what_cannot_be_moved_is_refused(tiny_model: Path, other_model: Path, wide_model: Path) -> None:
    with pytest.raises(HarnessError) as refused:
        plan(wide_model, "mixer", sets=[f"transfer.from={tiny_model}"])
    for part in (
        "self_attn.k_proj is 16x32 there and 32x32 here (in 2 layers)",
        "self_attn.v_proj is 16x32",
        "mlp.gate_proj",
        "and 2 more kinds",
    ):
        assert part in str(refused.value)
    with pytest.raises(HarnessError, match="the model of the run itself"):
        plan(tiny_model, "mixer", sets=[f"transfer.from={tiny_model}"])
    with pytest.raises(HarnessError, match="no experts and no fit"):
        plan(tiny_model, f"base[transfer.from={other_model}]")


def test_shapes_of_the_papers_pair_agree_and_those_of_others_do_not() -> None:
    from transformers import AutoConfig

    from methods.architectures import architectures
    from methods.shapes import config_shapes, differences

    def shapes(name: str) -> Any:
        values = dict(architectures()[name].config)
        return config_shapes(AutoConfig.for_model(values.pop("model_type"), **values))

    assert differences(shapes("mistral-7b"), shapes("llama3-8b")) == ""
    assert "k_proj is 1024x4096 there and 4096x4096 here" in differences(shapes("mistral-7b"), shapes("llama2-7b"))


def kept(stages: Path, kind: str) -> set[str]:
    """Keys of the finished stages of a kind."""
    return {folder.name for folder in (stages / kind).iterdir() if is_finished(folder)}


def test_a_moved_run_trains_nothing_on_its_own_model(
    ran: Path, tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = tmp_path / "stages"
    shutil.copytree(ran / "stages", stages)
    before = {kind: kept(stages, kind) for kind in ("expert", "composed", "outputs")}
    arguments = ["run", "--methods", METHODS, *SMALL, "--model", str(other_model), "--transfer-from", str(tiny_model)]
    run(*arguments, "--output", str(tmp_path / "run"), stages=stages, monkeypatch=monkeypatch)
    assert kept(stages, "expert") == before["expert"]
    assert kept(stages, "composed") == before["composed"]
    records = RunFolder.open(tmp_path / "run").records()
    assert {record.status for record in records} == {"done"}
    assert len(kept(stages, "outputs") - before["outputs"]) == len(records) == 12
    for record in records:
        said = f"experts and routers of {tiny_model}, nothing trained here."
        assert any(said in note for note in record.notes) == (record.spec.method != "base")


def test_what_is_missing_is_trained_on_the_first_model(
    ran: Path, tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From empty stages the same adapters, routers and outputs come out as after a run on the first model."""
    arguments = ["run", "--methods", f"mixer,mixer[transfer.from={tiny_model}]", *SMALL, "--model", str(other_model)]
    run(*arguments, "--output", str(tmp_path / "run"), stages=tmp_path / "stages", monkeypatch=monkeypatch)
    mine, theirs = Stages(tmp_path / "stages"), Stages(ran / "stages")
    assert len(kept(mine.root, "expert")) == 6
    assert kept(theirs.root, "expert") < kept(mine.root, "expert")
    (fit,) = kept(mine.root, "composed") & kept(theirs.root, "composed")
    files = [stages.path("composed", fit) / "composed.safetensors" for stages in (mine, theirs)]
    assert files[0].read_bytes() == files[1].read_bytes()
    folder = RunFolder.open(tmp_path / "run")
    sst2 = [record for record in folder.records() if record.spec.task == "sst2"]
    one, other = ([item.outputs for item in folder.items(record.cell)] for record in sst2)
    assert one != other


def test_a_fit_that_fails_there_is_not_made_here_instead(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = plan(other_model, f"mixer[transfer.from={tiny_model}]")
    folder = RunFolder(tmp_path / "run", RunInfo(name="run"))
    engine = Engine(moved, Stages(tmp_path / "stages"), folder, "cpu", LoadedModels(), [])

    def fails(*_: Any) -> None:
        raise NotFinite("overflows")

    (there,) = engine._origins.values()
    monkeypatch.setattr(there, "composed", fails)
    with pytest.raises(NotFinite, match="overflows"), engine.composed(moved.cells[0], Progress(1.0, io.StringIO())):
        pass
    assert not (tmp_path / "stages" / "composed").exists()


def test_the_papers_table_of_moved_parameters_is_planned(
    tiny_model: Path,
    other_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["reproduce", "t5", "--preset", "smoke", "--model", str(other_model), "--limit", "2", "--plan"]
    output = ["--output", str(tmp_path / "run")]
    run(*arguments, "--transfer-from", str(tiny_model), *output, stages=tmp_path / "stages", monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert "10 cells" in printed
    # Scores of two-shot prompts differ, of experts and the fit they do not: three experts and one fit for five cells.
    assert printed.count("  expert ") == 3
    assert printed.count("  fit mixer[transfer.from=") == 1
    run(*arguments, *output, stages=tmp_path / "stages", monkeypatch=monkeypatch)
    assert "5 cells" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["mixer", "xlora[scope=prompt_fixed]", "multitask-lora", "uniform", "base"])
def test_an_exported_model_is_the_engines(
    method: str, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    output = tmp_path / "out"
    arguments = ["export", str(ran / "run"), "--method", method, "--output", str(output)]
    run(*arguments, stages=ran / "stages", monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert f"harness.load('{output}')" in printed
    model, tokenizer = methods.load(output), AutoTokenizer.from_pretrained(output)
    batch = tokenizer("The film is a delight from start to finish.", return_tensors="pt")
    with torch.no_grad():
        ours = model(**batch).logits
    assert torch.equal(ours, engines_logits(ran, method, None, batch))
    assert model.generate(**batch, max_new_tokens=5, min_new_tokens=5).shape[1] == batch["input_ids"].shape[1] + 5


def engines_logits(ran: Path, method: str, task: str | None, batch: Any) -> torch.Tensor:
    """Logits of what the engine itself composes for a cell."""
    from harness.planning.config import validate

    folder = RunFolder.open(ran / "run")
    plan = Plan(validate(folder.info.variants[0].config), open_source("bundled"))
    engine = Engine(plan, Stages(ran / "stages"), folder, "cpu", LoadedModels(), [])
    cell = next(c for c in engine.plan.cells if c.spec.method == method and task in (None, c.spec.task))
    with engine.composed(cell, Progress(1.0, io.StringIO())) as composed, torch.no_grad():
        logits: torch.Tensor = composed.model(**batch).logits
    return logits


def test_fits_of_all_tasks_are_exported_together(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    run("export", str(ran / "run"), "--method", "lora", "--output", str(output), stages=ran / "stages",
        monkeypatch=monkeypatch)  # fmt: skip
    assert "task='sst2'" in capsys.readouterr().out
    batch = {"input_ids": torch.arange(10)[None] + 3}
    both = []
    for task in ("sst2", "arc-e"):
        model = methods.load(output, task=task)
        with torch.no_grad():
            both.append(model(**batch).logits)
        assert torch.equal(both[-1], engines_logits(ran, "lora", task, batch))
    assert not torch.equal(*both)


@pytest.mark.parametrize("method", ["uniform", "multitask-lora"])
def test_a_static_method_is_exported_as_an_adapter(
    method: str,
    ran: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    output = tmp_path / "out"
    run("export", str(ran / "run"), "--method", method, "--as", "peft", "--output", str(output),
        stages=ran / "stages", monkeypatch=monkeypatch)  # fmt: skip
    assert f"PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained('{tiny_model}'), '{output}')" in (
        capsys.readouterr().out
    )
    batch = {"input_ids": torch.arange(10)[None] + 3}
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(output)).eval()
        gap = adapted(**batch).logits - engines_logits(ran, method, None, batch)
    assert gap.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "mixr"], ["mixr", "mixer"]),
        (["--method", "mixer", "--seed", "7"], ["seed 7", "0"]),
        (["--method", "mixer", "--task", "sst2"], ["one fit for all tasks", "--task"]),
        (["--method", "lora", "--task", "sst3"], ["sst3", "sst2"]),
        (["--method", "lora", "--as", "peft"], ["--task", "sst2, arc-e"]),
        (["--method", "mixer", "--as", "peft"], ["no ordinary adapter", "depends on the input"]),
        (["--method", "mixer", "--as", "gguf"], ["gguf", "composed"]),
    ],
)
def test_a_mistake_in_an_export_is_one_sentence(
    arguments: list[str], words: list[str], ran: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    said = refusal("export", str(ran / "run"), *arguments, "--output", str(tmp_path), stages=ran / "stages")
    assert all(word in said for word in words), said


def test_stages_that_are_gone_are_named(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["harness", "export", str(ran / "run"), "--method", "mixer", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", line)
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    with pytest.raises(SystemExit):
        main()
    assert "is not stored any more: add --train to train it again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
