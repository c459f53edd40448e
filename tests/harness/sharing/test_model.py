"""A composed model beside its data set: it loads on the base that its card names, and names no place of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from harness.planning.options import configuration
from harness.planning.variants import Variant
from harness.runs import Run
from harness.sharing.publish import Model, stage
from results.ground.errors import HarnessError

pytestmark = [pytest.mark.assets, pytest.mark.model]


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(folder / "stages"))
        config = configuration(
            "smoke",
            {
                "methods": ["uniform", "mixer"],
                "tasks": ["sst2"],
                "model": str(tiny_model),
                "experts": ["sst2", "mrpc", "arc"],
                "limit": 4,
            },
        )
        Run.start([Variant(config)], folder / "run").compute()
    return folder / "run"


@pytest.fixture(autouse=True)
def stages(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(run.parent / "stages"))


def test_a_published_model_loads_and_names_no_place(run: Path, tiny_model: Path, tmp_path: Path) -> None:
    from methods.saving import load

    dataset, model = stage(run, "anna/mine", tmp_path / "out", Model("mixer"))
    assert (dataset.name, model.name, model.kind) == ("anna/mine", "anna/mine-mixer", "model")
    for file in model.files:
        if file.suffix in (".json", ".md"):
            assert str(tiny_model.parent) not in file.read_text(), file.name
    manifest = json.loads((model.folder / "manifest.json").read_text())
    assert manifest["base"]["location"] == "…/tiny-llama"
    loaded = load(model.folder, str(tiny_model))
    assert type(loaded.lora_composed).__name__ == "RoutedComposed"
    _, head, text = (model.folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["datasets"] == ["anna/mine"]
    assert 'snapshot_download("anna/mine-mixer")' in text
    assert "| sst2 | acc |" in text


def test_an_ordinary_adapter_is_published_for_peft(run: Path, tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _, model = stage(run, "anna/mine", tmp_path / "out", Model("uniform", form="peft"))
    config = json.loads((model.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "…/tiny-llama"
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(model.folder))
    assert yaml.safe_load((model.folder / "README.md").read_text().split("---\n")[1])["library_name"] == "peft"


def test_a_model_that_the_run_has_not_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="Unknown method of this run 'mixr': did you mean mixer"):
        stage(run, "anna/mine", tmp_path / "out", Model("mixr"))
    assert not list((tmp_path / "out").iterdir())
