"""What names a stage covers all that its content depends on, and what is missing is never made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from harness.models import load, model_revision
from harness.planning.brought import same_model
from harness.planning.pools import reference_place
from results.ground import files
from results.ground.errors import HarnessError
from results.store import RunFolder
from tests.harness.runs.command import TINY, call

pytestmark = [pytest.mark.assets, pytest.mark.model]


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny model, to be changed; stages of its own."""
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja", "additional_chat_templates/tool_use.jinja", "tokenizer.model", "vocab.txt", "merges.txt",
        "vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
        "qwen.tiktoken", "model.safetensors",
    ],
)  # fmt: skip
def test_every_file_that_is_read_is_part_of_a_models_identity(model: Path, name: str) -> None:
    before = model_revision(str(model))
    (model / "README.md").write_text("not read")
    assert model_revision(str(model)) == before
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes((model / name).read_bytes() + b" " if (model / name).exists() else b"new")
    assert model_revision(str(model)) != before


def test_another_template_gives_other_cells(model: Path, tmp_path: Path) -> None:
    run = ["run", "--methods", "base", "--tasks", "sst2", *TINY, "--model", str(model), "--set",
           "model.chat_template=true", "--output", str(tmp_path / "run")]  # fmt: skip
    template = model / "chat_template.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert call(*run) == 0
    template.write_text("Question: {% for message in messages %}{{ message.content }}{% endfor %}")
    assert call(*run) == 0
    folder = RunFolder.open(tmp_path / "run")
    (record,) = folder.records()
    assert all(item.prompt.startswith("Question: ") for item in folder.items(record.cell))
    assert len(list((tmp_path / "stages" / "outputs").glob("*/DONE"))) == 2


def test_another_prompt_of_the_same_rows_is_another_cell(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an upgrade of a library would change it, with no version of ours raised."""
    from dataclasses import replace

    from tasks.lm_eval_task import LmEvalBound

    run = ["run", "--methods", "base", "--tasks", "sst2", *TINY, "--model", str(model),
           "--output", str(tmp_path / "run")]  # fmt: skip
    assert call(*run) == 0
    genuine = LmEvalBound.requests
    monkeypatch.setattr(
        LmEvalBound,
        "requests",
        lambda self, doc, seed: [replace(one, context=one.context + "!") for one in genuine(self, doc, seed)],
    )
    capsys.readouterr()
    assert call(*run) == 0
    assert "planned anew" in capsys.readouterr().err
    folder = RunFolder.open(tmp_path / "run")
    (record,) = folder.records()
    assert all(item.prompt.endswith("!") for item in folder.items(record.cell))


def test_outputs_that_answer_other_prompts_are_not_scored(model: Path, tmp_path: Path) -> None:
    run = ["run", "--methods", "base", "--tasks", "sst2", *TINY, "--model", str(model),
           "--output", str(tmp_path / "run")]  # fmt: skip
    assert call(*run) == 0
    (stored,) = (tmp_path / "stages" / "outputs").glob("*/outputs.json")
    outputs = json.loads(stored.read_text())
    stored.write_text(json.dumps({**outputs, "requests": "0" * len(outputs["requests"])}))
    files._mark(stored.parent)  # as if it had been stored so
    shutil.rmtree(tmp_path / "run" / "cells")
    assert call(*run) == 1
    (record,) = RunFolder.open(tmp_path / "run").records()
    assert "other prompts" in str(record.error)


def test_a_weight_that_is_missing_is_refused_by_name(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    name = next(key for key in tensors if "q_proj" in key)
    kept = {key: value for key, value in tensors.items() if key != name}
    save_file(kept, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(HarnessError, match=name.replace(".", r"\.")):
        load(str(model))


@pytest.mark.parametrize("change", [{"num_hidden_layers": 3}, {"intermediate_size": 96}])
def test_a_configuration_that_asks_for_more_than_there_is_is_refused(model: Path, change: dict[str, int]) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(HarnessError, match=r"model\.layers\.|cannot be loaded"):
        load(str(model))


def test_tied_weights_are_not_missing(model: Path) -> None:
    assert "lm_head.weight" not in load_file(model / "model.safetensors")
    assert load(str(model)).model is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "/models/SmolLM2-135M/", True),
        ("smollm2-135m", "SmolLM2-135M", True),
        ("meta-llama/Llama-3-8B", "meta-llama/Llama-3-8B-Instruct", False),
    ],
)
def test_a_model_is_the_same_wherever_it_lies(one: str, other: str, same: bool) -> None:
    assert same_model(one, other) is same


def test_brought_experts_say_where_they_come_from_and_what_they_were_made_for(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--methods", "lora", "--tasks", "sst2", *TINY, "--model", str(model),
                "--output", str(tmp_path / "run")) == 0  # fmt: skip
    folder = next((tmp_path / "stages" / "expert").glob("*/DONE")).parent
    config = json.loads((folder / "adapter_config.json").read_text())
    brought = tmp_path / "brought"
    shutil.copytree(folder, brought)
    for base, said in (("ORG/other-model", True), (f"ORG/{model.name}", False)):
        (brought / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
        capsys.readouterr()
        output = str(tmp_path / base.replace("/", "-"))
        assert call("run", "--preset", "smoke", "--limit", "4", "--model", str(model), "--methods", "uniform",
                    "--tasks", "sst2", "--experts", f"sst2={brought}", "--output", output) == 0  # fmt: skip
        shown = capsys.readouterr()
        assert ("was made for ORG/other-model" in shown.err) is said
        assert ("Another base model" in shown.out) is said
        assert "Trained elsewhere: sst2 (" in shown.out
        assert "training tokens an expert" not in shown.out


def test_experts_of_the_reference_pool_are_named_without_the_folder_of_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import results

    own = Path(results.__file__).parent / "reference" / "smollm2-135m" / "pool" / "sst2"
    assert reference_place(own) == "reference/sst2"
    linked = tmp_path / "clone"
    linked.symlink_to(own.parents[2])
    assert reference_place(linked / "smollm2-135m" / "pool" / "sst2") == "reference/sst2"
    for other in (tmp_path / "pool" / "sst2", own.parent, own.parents[1] / "other" / "sst2"):
        assert reference_place(other) is None
