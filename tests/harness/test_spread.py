"""A base that is spread by `model.device_map`: the same run, stage by stage, in other places."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.bases.placed import computed_on, device_of, loading
from harness.evaluation.paths import deviation
from harness.executors.nodes import Node, Share, share
from harness.planning.model import ModelSection
from harness.training.data import Encoded, collate
from harness.training.loop import window_backward
from methods.conformance import Subject
from methods.tiny import tiny_model
from results.store import RunFolder
from tests.harness.runs.command import TINY, call
from tests.pretend import FIRST, spread

ON_THE_DISK = (
    "model.device_map={model.embed_tokens: disk, model.rotary_emb: cpu, model.layers.0: disk, model.layers.1: cpu, "
    "model.norm: cpu, lm_head: disk}"
)
SECOND_HALF = ("model.layers.1", "model.norm", "lm_head")


def test_a_run_of_a_base_on_the_disk_is_the_run_of_one_in_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells, stages and numbers, of experts and routers that were trained, and of prompts that were scored and
    continued, are equal to the bit."""
    run = ["run", "--methods", "base,ties,mixer", "--tasks", "sst2,gsm8k", *TINY, "--limit", "2"]
    made = {}
    for name, more in (("memory", []), ("disk", ["--set", ON_THE_DISK])):
        stages = tmp_path / f"stages-{name}"
        monkeypatch.setenv("HARNESS_STAGES", str(stages))
        assert call(*run, *more, "--model", str(tiny_model), "--output", str(tmp_path / name)) == 0
        records = RunFolder.open(tmp_path / name).records()
        assert {one.status for one in records} == {"done"}
        weights = sorted(
            (path.parent.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in stages.rglob("*.safetensors")
        )
        made[name] = weights, {one.cell: (one.spec, one.metrics, one.model) for one in records}
    assert len(made["disk"][0]) == 3 + 1
    assert made["memory"] == made["disk"]


def test_shared_passes_over_two_devices_are_the_models_own() -> None:
    """A prefix, rows with branches, packed rows, decoding: see `deviation`."""
    model = tiny_model()
    tokenizer = SimpleNamespace(eos_token_id=2, pad_token_id=0, decode=lambda ids, **_: " ".join(map(str, ids)))
    with torch.no_grad(), spread(model, SECOND_HALF):
        assert deviation(model, tokenizer) is None


def test_a_window_over_two_devices_has_the_gradient_of_one() -> None:
    rows = [Encoded("0", "a", 0, (3, 7, 9, 11, 4), 2), Encoded("1", "b", 1, (5, 6, 8), 1)]
    gradients = []
    for second in ((), SECOND_HALF):
        model = tiny_model()
        with spread(model, second):
            composed = Subject("mixer").install(model)
            part = {name: value.to(FIRST) for name, value in collate(rows, 0).items()}
            routers = composed.groups()["routers"].values()
            for parameter in routers:
                parameter.requires_grad_(True)
            window_backward(composed, model, [part], lambda loss: loss.backward())
        gradients.append([parameter.grad for parameter in routers])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        (["model.device_map=anywhere"], "choose auto, balanced, balanced_low_0, sequential"),
        (["model.device_map=auto", "model.device=cpu"], "leave one out"),
        (["model.max_memory={cpu: 1GiB}"], "set device_map=auto"),
        (["model.device_map={model: disk, lm_head: cpu}", "model.quantization=4bit"], "A quantised base model stays"),
    ],
)
def test_what_cannot_be_spread_is_refused_in_a_sentence(
    settings: list[str], about: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [part for one in settings for part in ("--set", one)]
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, *said, "--plan") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert about in line


def test_a_device_that_is_not_here_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(Exception, match="The device 'cuda:7' is not available here"):
        device_of(ModelSection(name="any", device_map={"": 7}))
    assert device_of(ModelSection(name="any", device_map={"": "disk"})) == device_of(ModelSection(name="any"))


def test_the_numbers_of_gpus_may_have_been_texts() -> None:
    """As keys of JSON are."""
    section = ModelSection(name="any", device_map={"model": "0", "lm_head": "cpu"}, max_memory={"0": "1GiB", "cpu": 5})
    said = loading(section, "cuda", moves_late=True)
    assert said == {"device_map": {"model": 0, "lm_head": "cpu"}, "max_memory": {0: "1GiB", "cpu": 5}}
    assert ModelSection.model_validate(section.model_dump()) == section


@pytest.mark.parametrize(("places", "found"), [({"a": 0, "b": 1}, "cuda"), ({"a": 0, "b": "cpu"}, "cpu"), ({}, "cpu")])
def test_memory_is_measured_on_all_gpus_of_a_model(places: dict[str, Any], found: str) -> None:
    model = tiny_model()
    model.hf_device_map = places
    assert computed_on(model) == found


@pytest.mark.parametrize(("device_map", "gpus", "cpus"), [(None, 1, 8), ("auto", 4, 32)])
def test_a_worker_of_a_cluster_takes_all_gpus_of_a_node_for_a_spread_base(
    device_map: str | None, gpus: int, cpus: int
) -> None:
    section = ModelSection(name="any", device_map=device_map)
    engine: Any = SimpleNamespace(
        plan=SimpleNamespace(config=SimpleNamespace(model=section)), facts=SimpleNamespace(memory=7)
    )
    assert share([engine], [Node("a", "a", 32, 4, 100)], 2) == Share(cpus, gpus, 7)
