"""A base that is quantised by a run, or that is stored so: what is computed, named, counted and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import harness
from harness.bases.quantised import weight_bytes
from harness.models import buildable, load_section, model_config
from harness.planning.estimate import parameter_count
from harness.planning.model import ModelSection
from methods.routing.frozen import FOUR, stored_as
from methods.shapes import config_shapes
from results.ground.errors import HarnessError
from results.store import RunFolder
from tests.harness.runs.command import TINY, call

pytest.importorskip("bitsandbytes")

QUANTISED = ["--set", "model.quantization=4bit"]


def test_a_run_over_four_bits_says_so_and_shares_no_stage_with_one_that_is_not_quantised(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    run = ["run", "--methods", "base,uniform,ties,mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model)]
    assert call(*run, "--output", str(tmp_path / "whole")) == 0
    assert call(*run, *QUANTISED, "--output", str(tmp_path / "packed")) == 0
    whole, packed = (RunFolder.open(tmp_path / name).records() for name in ("whole", "packed"))
    assert {one.status for one in (*whole, *packed)} == {"done"}
    said = "float32, weights quantised to nf4 with double quantisation"
    assert {one.model.dtype for one in packed} == {one.spec.dtype for one in packed} == {said}
    assert {one.model.parameters for one in packed} == {one.model.parameters for one in whole}
    assert not {one.cell for one in whole} & {one.cell for one in packed}
    made = {kind: len(list((tmp_path / "stages" / kind).glob("*/DONE"))) for kind in ("expert", "composed", "outputs")}
    assert made == {"expert": 2 * 3, "composed": 2 * 1, "outputs": 2 * 4}


def test_what_was_composed_over_four_bits_is_loaded_over_four_bits(tiny_model: Path, tmp_path: Path) -> None:
    run = ["--methods", "mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model), *QUANTISED]
    assert call("run", *run, "--output", str(tmp_path / "run")) == 0
    assert call("export", str(tmp_path / "run"), "--method", "mixer", "--output", str(tmp_path / "saved")) == 0
    first, second = (harness.load(tmp_path / "saved") for _ in range(2))
    assert stored_as(first.model.layers[0].self_attn.q_proj.base) == FOUR
    ids = torch.arange(8)[None] + 3
    with torch.no_grad():
        assert torch.equal(first(input_ids=ids).logits, second(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "float32"),
        ({"quantization": "4bit"}, "float32, weights quantised to nf4 with double quantisation"),
        (
            {"quantization": "4bit", "bnb_4bit_use_double_quant": False, "bnb_4bit_compute_dtype": "bfloat16"},
            "float32, weights quantised to nf4, products with them in bfloat16",
        ),
        ({"quantization": "8bit", "dtype": "float16"}, "float16, products by LLM.int8() with threshold 6"),
    ],
)
def test_the_arithmetic_is_named(options: dict[str, Any], said: str) -> None:
    section = ModelSection(name="any", **options)
    assert section.arithmetic == said
    assert ModelSection.model_validate(section.model_dump()) == section
    assert section.model_dump().keys() - ModelSection(name="any").model_dump().keys() == options.keys() - {"dtype"}


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        (["model.quantization=2bit"], "quantization"),
        (["model.bnb_4bit_quant_type=fp4"], "bnb_4bit_quant_type is about quantization=4bit"),
        (["model.quantization=4bit", "model.llm_int8_threshold=0"], "llm_int8_threshold is about quantization=8bit"),
        (["model.quantization=8bit", "model.bnb_4bit_compute_dtype=float16"], "about quantization=4bit"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(
    settings: list[str], about: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [part for one in settings for part in ("--set", one)]
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, *said, "--plan") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert about in line


def test_a_missing_package_is_named_while_planning(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.bases.quantised.find_spec", lambda _name: None)
    run = ["run", "--methods", "base", "--tasks", "sst2", *TINY, "--model", str(tiny_model)]
    assert call(*run, *QUANTISED, "--plan") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "need the package bitsandbytes: pip install" in line


@pytest.mark.parametrize("kind", ["gptq", "awq", "compressed-tensors", "mxfp4", "of-tomorrow"])
def test_files_whose_layers_nothing_can_be_put_beside_are_refused_while_planning(
    kind: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stored(tiny_model, tmp_path / "stored", {"quant_method": kind, "bits": 4})
    assert call("run", "--methods", "base", "--tasks", "sst2", *TINY, "--model", str(folder), "--plan") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"stored quantised by {kind}, whose layers are no linear layers" in line


def test_a_base_that_is_stored_in_four_bits_loads_in_the_type_that_is_asked_for(
    tiny_model: Path, tmp_path: Path
) -> None:
    """To the bit what quantising it here gives; transformers would keep the type that it was saved in."""
    section = ModelSection(name=str(tiny_model), quantization="4bit")
    here = load_section(section, "cpu")
    folder = stored(tiny_model, tmp_path / "stored")
    here.model.save_pretrained(folder)
    there = ModelSection(name=str(folder))
    ids = torch.arange(8)[None] + 3
    loaded = load_section(there, "cpu")
    assert loaded.label == "stored, stored in 4 bits (nf4 with double quantisation)"
    assert torch.equal(loaded.model(input_ids=ids).logits, here.model(input_ids=ids).logits)
    half = load_section(ModelSection(name=str(folder), dtype="bfloat16"), "cpu").model
    assert half(input_ids=ids).logits.dtype == torch.bfloat16
    assert parameter_count(model_config(str(folder))) == parameter_count(model_config(str(tiny_model)))
    assert weight_bytes(model_config(str(folder)), there) == weight_bytes(model_config(str(tiny_model)), section)
    with pytest.raises(HarnessError, match=r"is stored quantised \(bitsandbytes\): leave model\.quantization out"):
        buildable(model_config(str(folder)), ModelSection(name=str(folder), quantization="8bit"))


def test_a_base_that_is_stored_in_eight_bit_floats_is_dequantised_and_says_so(tiny_model: Path, tmp_path: Path) -> None:
    """Each block of 16 by 16 weights has a scale of its own; the largest of e4m3 is 448."""
    block = {"quant_method": "fp8", "weight_block_size": [16, 16], "activation_scheme": "dynamic", "fmt": "e4m3"}
    folder = stored(tiny_model, tmp_path / "stored", block)
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith("_proj.weight")]:
        parts = weights[name].unflatten(1, (-1, 16)).unflatten(0, (-1, 16))
        scale = parts.abs().amax((1, 3), keepdim=True) / 448
        weights[name] = (parts / scale).to(torch.float8_e4m3fn).flatten(2).flatten(0, 1)
        weights[f"{name}_scale_inv"] = scale[:, 0, :, 0]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_section(ModelSection(name=str(folder)), "cpu")
    assert loaded.label == "stored, dequantised from fp8"
    original = load_section(ModelSection(name=str(tiny_model)), "cpu").model
    for name, weight in original.named_parameters():
        found = loaded.model.get_parameter(name)
        assert found.dtype == torch.float32
        assert (found - weight).abs().max() <= (2**-4 * weight.abs().max() if name.endswith("_proj.weight") else 0)


@pytest.mark.parametrize(("quantization", "bits"), [("4bit", 4 + 8 / 64 + 32 / (64 * 256)), ("8bit", 8), (None, 32)])
def test_memory_is_counted_in_the_bits_that_weights_take(quantization: Any, bits: float, tiny_model: Path) -> None:
    section = ModelSection(name=str(tiny_model), quantization=quantization)
    model = load_section(section, "cpu").model
    held = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    counted = weight_bytes(model_config(str(tiny_model)), section)
    linear = sum(4 * d_out * d_in for d_out, d_in in config_shapes(model_config(str(tiny_model))).values()) / 4
    assert held <= counted < held * 1.02
    plain = weight_bytes(model_config(str(tiny_model)), ModelSection(name=str(tiny_model)))
    rows = 4 * sum(d_out for d_out, _ in config_shapes(model_config(str(tiny_model))).values())
    expected = plain - linear * (32 - bits) / 8 + (rows if quantization == "8bit" else 0)
    assert counted == pytest.approx(expected, abs=200)


def stored(model: Path, folder: Path, quantization: dict[str, Any] | None = None) -> Path:
    """A copy of a model's folder that says it is quantised."""
    shutil.copytree(model, folder)
    if quantization is not None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization}))
    return folder
