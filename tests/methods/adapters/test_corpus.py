"""Every adapter directory computes here what PEFT computes with it, or is refused in one sentence that says why."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import adapter_fields, patterns
from methods.adapter_file import read_adapter
from methods.adapters import AdapterError, read_config
from methods.experts import load_expert
from methods.fitting import check_adapter
from methods.lora import Lora
from methods.tiny import tiny_batch, tiny_llama
from tests.methods.adapters.cases import CASES, REMOVED, Case

BATCH = tiny_batch()


@pytest.fixture(autouse=True)
def _short_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 1.0)


def base(tied: bool = False, dtype: torch.dtype = torch.float64) -> Any:
    model = tiny_llama(dtype=dtype)
    if tied:
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(input_ids=BATCH.input_ids, attention_mask=BATCH.attention_mask).logits
    return output


def make(case: Case, folder: Path) -> None:
    """Let PEFT make the adapter, give it random factors, and change its configuration."""
    from peft import LoraConfig, get_peft_model

    known = {spec.name for spec in dataclasses.fields(LoraConfig)}
    if new := case.made.keys() - known:
        pytest.skip(f"this PEFT has no {', '.join(sorted(new))}")
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], **case.made}
    torch.manual_seed(0)
    # Some initial values are computed in single precision alone.
    try:
        wrapped = get_peft_model(base(case.tied, torch.float32), LoraConfig(**settings)).double()
    except ValueError as error:
        if "Unknown initialization" in str(error):
            pytest.skip(f"this PEFT has no initialisation {settings['init_lora_weights']}")
        raise
    draw = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if ".lora_" in name:
            parameter.data = (torch.randn(parameter.shape, generator=draw) * 0.2).double()
    wrapped.save_pretrained(str(folder), **case.save)
    change(folder, case.changed)


def change(folder: Path, changes: Any) -> None:
    path = folder / "adapter_config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not REMOVED}))


def ours(folder: Path, tied: bool = False) -> Tensor:
    """As a run does it: planned from headers against a model without weights, then loaded and installed."""
    model = base(tied)
    check_adapter("x", read_adapter(folder), base(tied).to("meta"))
    composed = Lora().install(model, [load_expert("x", folder)], seed=0)
    found = logits(model)
    composed.uninstall()
    return found


@cache
def plain(tied: bool) -> Tensor:
    return logits(base(tied))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_peft_or_says_why_not(case: Case, tmp_path: Path) -> None:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(case, tmp_path)
        if case.says is not None:
            with pytest.raises(AdapterError, match=case.says) as caught:
                ours(tmp_path, case.tied)
            assert re.search(r"\.\s", str(caught.value)) is None
            return
        theirs = logits(PeftModel.from_pretrained(base(case.tied, torch.float32), str(tmp_path)).double())
    found = ours(tmp_path, case.tied)
    assert (found - theirs).abs().max() <= 1e-12
    if case.name != "alpha 0":
        assert (found - plain(case.tied)).abs().max() > 1e-6


def test_the_corpus_is_large_and_has_each_field() -> None:
    from peft import LoraConfig

    assert len(CASES) >= 120
    assert len({case.name for case in CASES}) == len(CASES)
    named = {key for case in CASES for key in (*case.made, *case.changed)}
    # PEFT does not write it.
    assert {f.name for f in dataclasses.fields(LoraConfig)} - named <= {"runtime_config"}


def test_every_field_of_peft_is_in_one_table() -> None:
    from peft import LoraConfig

    tables = (
        adapter_fields.READ,
        adapter_fields.WITHOUT_EFFECT,
        set(adapter_fields.REFUSED),
        set(adapter_fields.REFUSED_UNLESS_NONE),
    )
    for spec in dataclasses.fields(LoraConfig):
        assert sum(spec.name in table for table in tables) == 1, spec.name


@pytest.mark.parametrize("changes", [{"rank_pattern": None, "alpha_pattern": None}, {"r": 4.0}], ids=str)
def test_what_peft_cannot_load_and_can_only_mean_one_thing(
    changes: dict[str, Any], plain_adapter: Path, tmp_path: Path
) -> None:
    change(copy_of(plain_adapter, tmp_path), changes)
    assert torch.equal(ours(tmp_path), ours(plain_adapter))


def other_fields() -> dict[str, str]:
    """Fields of PEFT's other configurations that LoRA's has not, with the kind that has them."""
    from peft import LoraConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    lora = {spec.name for spec in dataclasses.fields(LoraConfig)}
    return {
        spec.name: str(kind.value)
        for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()
        for spec in dataclasses.fields(config)
        if spec.name not in lora
    }


@pytest.fixture(scope="module")
def plain_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    make(Case("plain"), folder)
    return folder


def copy_of(folder: Path, place: Path) -> Path:
    for file in folder.glob("adapter_*"):
        (place / file.name).write_bytes(file.read_bytes())
    return place


@pytest.mark.parametrize("field", other_fields())
def test_fields_of_other_kinds_are_refused_by_name(field: str, plain_adapter: Path, tmp_path: Path) -> None:
    change(copy_of(plain_adapter, tmp_path), {field: 3})
    with pytest.raises(AdapterError, match=f"sets {field}, which is not known here"):
        read_config(tmp_path)


def other_kinds() -> list[str]:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return sorted({str(kind.value) for kind in PEFT_TYPE_TO_CONFIG_MAPPING} - {"LORA"})


@pytest.mark.parametrize("kind", other_kinds())
def test_other_kinds_are_refused_by_name(kind: str, plain_adapter: Path, tmp_path: Path) -> None:
    change(copy_of(plain_adapter, tmp_path), {"peft_type": kind})
    with pytest.raises(AdapterError, match=f"of PEFT type {kind}"):
        read_config(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_cut_files_are_refused(part: float, plain_adapter: Path, tmp_path: Path) -> None:
    weights = copy_of(plain_adapter, tmp_path) / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(part * len(content))])
    with pytest.raises(AdapterError, match="cannot be read"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    "content", [b"\0" * 100, b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_files_of_other_formats_are_refused(content: bytes, file: str, plain_adapter: Path, tmp_path: Path) -> None:
    (copy_of(plain_adapter, tmp_path) / "adapter_model.safetensors").unlink()
    (tmp_path / file).write_bytes(content)
    with pytest.raises(AdapterError, match="cannot be read"):
        read_adapter(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"LORA"', "[" * 100_000], ids=lambda text: text[:6])
def test_broken_configurations_are_refused(content: str, plain_adapter: Path, tmp_path: Path) -> None:
    (copy_of(plain_adapter, tmp_path) / "adapter_config.json").write_text(content)
    with pytest.raises(AdapterError, match=r"not valid JSON|does not hold|nested too deeply"):
        read_config(tmp_path)


PREFIX = "base_model.model.model.layers.0.self_attn"


@pytest.mark.parametrize(
    ("key", "tensor", "says"),
    [
        (f"{PREFIX}.q_proj.lora_A.weight", torch.ones(4, 32, dtype=torch.int8), "as I8"),
        (f"{PREFIX}.q_proj.lora_A.weight", torch.ones(3, 32), "lacks one of two matching factors"),
        (f"{PREFIX}.q_proj.lora_A.weight", torch.ones(4, 32, 1), "not LoRA on a linear layer"),
        (f"{PREFIX}.q_proj.lora_A.weight", torch.ones(4, 31), "trained for another base model"),
        (f"{PREFIX}.q_proj.lora_magnitude_vector", torch.ones(32), "not LoRA on a linear layer"),
        (f"{PREFIX}.q_proj.lora_B.bias", torch.ones(32), "not LoRA on a linear layer"),
        (f"{PREFIX}.q_proj.lora_A.default.weight", torch.ones(4, 32), "not LoRA on a linear layer"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", torch.ones(4, 32), "not LoRA on a linear layer"),
        (f"{PREFIX}.k_proj.lora_A.weight", torch.ones(4, 32), "lacks one of two matching factors"),
        (f"{PREFIX}.k_proj.weight", torch.ones(16, 32), "no embedding of this model"),
        ("base_model.model.model.norm.weight", torch.ones(32), "no embedding of this model"),
        ("base_model.model.lm_head.weight", torch.ones(65, 32), "resized embeddings"),
        ("base_model.model.lm_head.weight", torch.ones(64, 32), "is not equal to it"),
        ("base_model.model.model.embed_tokens.weight", torch.ones(64, 32), "is not equal to it"),
    ],
)
def test_other_tensors_are_refused(key: str, tensor: Tensor, says: str, plain_adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = copy_of(plain_adapter, tmp_path) / "adapter_model.safetensors"
    save_file(load_file(weights) | {key: tensor}, weights)
    with pytest.raises(AdapterError, match=says):
        ours(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_factors_of_any_type_compute_what_peft_computes(
    dtype: torch.dtype, pickled: bool, plain_adapter: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    weights = copy_of(plain_adapter, tmp_path) / "adapter_model.safetensors"
    tensors = {key: value.to(dtype) for key, value in load_file(weights).items()}
    save_file(tensors, weights)
    if pickled:
        weights.unlink()
        torch.save(tensors, tmp_path / "adapter_model.bin")
    theirs = logits(PeftModel.from_pretrained(base(), str(tmp_path), autocast_adapter_dtype=False))
    assert (ours(tmp_path) - theirs).abs().max() <= 1e-12


@pytest.mark.parametrize("stored", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("run", [torch.float64, torch.bfloat16])
def test_embeddings_that_are_stored_in_another_type_are_the_same(
    stored: torch.dtype, run: torch.dtype, plain_adapter: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = copy_of(plain_adapter, tmp_path) / "adapter_model.safetensors"
    save_file(load_file(weights) | {"base_model.model.lm_head.weight": base().lm_head.weight.to(stored)}, weights)
    Lora().install(base(dtype=run), [load_expert("x", tmp_path)], seed=0)
