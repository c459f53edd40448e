"""Experts as PEFT adapter directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from methods.adapters import AdapterError, adapter_digest, read_config
from methods.agreements import agreed
from methods.base import Expert, SiteFactors
from methods.experts import check_fits, load_expert, new_expert, pool_sites, save_expert
from methods.lora import Lora
from methods.tiny import TARGETS, tiny_batch, tiny_experts, tiny_llama

# peft 0.21 still asks transformers 5 by the old name.


def logits(model: nn.Module) -> torch.Tensor:
    batch = tiny_batch()
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits


def uneven(expert: Expert) -> Expert:
    """Another rank at one site, another scale at a second, nothing at a third."""
    sites = dict(expert.sites)
    names = sorted(sites)
    first = sites[names[0]]
    sites[names[0]] = SiteFactors(first.A[:2], first.B[:, :2], first.scale)
    sites[names[1]] = SiteFactors(sites[names[1]].A, sites[names[1]].B, 0.375)
    del sites[names[2]]
    return Expert(expert.name, sites)


@pytest.mark.parametrize("change", [lambda expert: expert, uneven], ids=["even", "uneven"])
def test_saved_experts_load_in_plain_peft(tmp_path: Path, change: Any) -> None:
    from peft import PeftModel

    model = tiny_llama(dtype=torch.float64)
    expert = change(tiny_experts(model)[0])
    composed = Lora().install(model, [expert], seed=0)
    ours = logits(model)
    composed.uninstall()
    saved = save_expert(expert, tmp_path / "a", base_model="tiny")
    theirs = logits(PeftModel.from_pretrained(tiny_llama(dtype=torch.float64), str(tmp_path / "a")))
    assert (ours - theirs).abs().max() <= agreed("lora", "peft").output
    loaded = load_expert("a", tmp_path / "a")
    assert loaded.digest == saved.digest == adapter_digest(tmp_path / "a")
    assert loaded.sites.keys() == expert.sites.keys()
    for site, factors in expert.sites.items():
        assert torch.equal(loaded.sites[site].A, factors.A)
        assert torch.equal(loaded.sites[site].B, factors.B)
        assert loaded.sites[site].scale == pytest.approx(factors.scale, rel=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.o_proj": 8}, "alpha_pattern": {"o_proj": 3}},
    ],
    ids=["plain", "rslora", "patterns"],
)
def test_peft_adapters_load_here(tmp_path: Path, settings: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=6, target_modules=list(TARGETS), init_lora_weights=False, **settings)
    torch.manual_seed(0)
    wrapped = get_peft_model(tiny_llama(dtype=torch.float64), config)
    wrapped.eval()
    wrapped.save_pretrained(str(tmp_path), save_embedding_layers=False)
    model = tiny_llama(dtype=torch.float64)
    Lora().install(model, [load_expert("x", tmp_path)], seed=0)
    assert (logits(model) - logits(wrapped)).abs().max() <= 1e-12


def test_old_pickled_weights_load(tmp_path: Path) -> None:
    expert = tiny_experts(tiny_llama())[0]
    save_expert(expert, tmp_path, base_model="tiny")
    from safetensors.torch import load_file

    torch.save(load_file(tmp_path / "adapter_model.safetensors"), tmp_path / "adapter_model.bin")
    (tmp_path / "adapter_model.safetensors").unlink()
    assert load_expert("a", tmp_path).sites.keys() == expert.sites.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "of PEFT type IA3"),
        ({"use_dora": True}, "uses DoRA"),
        ({"bias": "all"}, "trains biases"),
        ({"lora_bias": True}, "uses a bias on B"),
        ({"modules_to_save": ["lm_head"]}, "fully trained modules"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base weights"),
        ({"fan_in_fan_out": True}, "transposed weights"),
        ({"r": 5}, "has rank 4 at .* but its configuration says 5"),
    ],
)
def test_unsupported_adapters_are_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save_expert(tiny_experts(tiny_llama())[0], tmp_path, base_model="tiny")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(AdapterError, match=message) as caught:
        load_expert("a", tmp_path)
    assert str(caught.value).count(". ") == 0


def test_broken_directories_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(AdapterError, match="no adapter_config"):
        read_config(tmp_path)
    save_expert(tiny_experts(tiny_llama())[0], tmp_path, base_model="tiny")
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    odd = {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(2, 3)}
    save_file(tensors | odd, weights)
    with pytest.raises(AdapterError, match="lora_embedding_A"):
        load_expert("a", tmp_path)
    save_file({key: value for key, value in tensors.items() if "q_proj.lora_B" not in key}, weights)
    with pytest.raises(AdapterError, match="lacks one of two matching factors"):
        load_expert("a", tmp_path)
    weights.write_bytes(b"nothing")
    with pytest.raises(AdapterError, match="cannot be read"):
        load_expert("a", tmp_path)
    weights.unlink()
    with pytest.raises(AdapterError, match="has no adapter_model"):
        load_expert("a", tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match="not valid JSON"):
        read_config(tmp_path)


def test_digest_follows_function_not_place(tmp_path: Path) -> None:
    expert = tiny_experts(tiny_llama())[0]
    first = save_expert(expert, tmp_path / "one", base_model="tiny").digest
    assert save_expert(expert, tmp_path / "two", base_model="elsewhere").digest == first
    path = tmp_path / "two" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 9}))
    assert adapter_digest(tmp_path / "two") != first
    assert save_expert(tiny_experts(tiny_llama(), seed=1)[0], tmp_path / "three", base_model="tiny").digest != first


def test_new_experts_follow_from_names() -> None:
    model = tiny_llama()
    one, again = (new_expert("x", model, TARGETS, r=4, lora_alpha=8, seed=3) for _ in range(2))
    for site, factors in one.sites.items():
        assert torch.equal(factors.A, again.sites[site].A)
        assert factors.B.abs().max() == 0
        # Kaiming-uniform with a = sqrt(5) is uniform within 1/sqrt(d_in), as PEFT has it.
        bound = factors.A.shape[1] ** -0.5
        assert 0.9 * bound < factors.A.abs().max() <= bound
        assert factors.scale == 2
    other = new_expert("y", model, TARGETS, r=4, lora_alpha=8, seed=3)
    assert not any(torch.equal(one.sites[site].A, other.sites[site].A) for site in one.sites)
    with pytest.raises(AdapterError, match="no linear layers named W_pack"):
        new_expert("x", model, ["q_proj", "W_pack"], r=4, lora_alpha=8, seed=0)


def test_experts_of_another_model_are_refused() -> None:
    model = tiny_llama()
    expert = tiny_experts(model)[0]
    check_fits(expert, model)
    narrow = {site: SiteFactors(f.A[:, :16], f.B, f.scale) for site, f in expert.sites.items()}
    message = r"'a' was trained for another base model: site .*q_proj has shape \(32, 16\) .* \(32, 32\) here.*5 more"
    with pytest.raises(AdapterError, match=message):
        check_fits(Expert("a", narrow), model)
    moved = {f"deeper.{site}": factors for site, factors in expert.sites.items()}
    with pytest.raises(AdapterError, match="does not exist here"):
        check_fits(Expert("a", moved), model)
    norm = {"model.norm": next(iter(expert.sites.values()))}
    with pytest.raises(AdapterError, match="is a LlamaRMSNorm here"):
        check_fits(Expert("a", norm), model)


def test_pool_sites_are_the_union_in_model_order() -> None:
    model = tiny_llama()
    q, o = tiny_experts(model, targets=["q_proj"])[0], tiny_experts(model, ["z"], targets=["o_proj"])[0]
    assert pool_sites([o, q], model) == [
        f"model.layers.{layer}.self_attn.{leaf}" for layer in range(2) for leaf in ("q_proj", "o_proj")
    ]
