"""Saved, loaded into a fresh base, and generated with: every registered method is the same function again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import methods
from methods import registry
from methods.base import Composed, Unsupported
from methods.conformance import Subject, generate, left_padded, logits, own
from methods.experts import load_expert, save_expert
from methods.manifest import SavedModelError
from methods.saving import Source
from methods.tiny import GENERATED, tiny_llama

WHOLE_PROMPTS: list[tuple[str, dict[str, Any]]] = [
    ("xlora", {"scope": "prompt_fixed"}),
    ("mole", {"gate.scope": "prompt_mean"}),
]
STATIC = ["lora", "uniform", "lorahub", "lego", "ties", "dare", "svd", "cat-soup", "multitask-lora", "lora-router-data"]
STATIC += ["task-arithmetic", "iso-c", "tsv", "knots", "core-space", "best-single", "regmean"]
ALL: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in registry.names()] + WHOLE_PROMPTS
LENGTH = {"max_new_tokens": GENERATED, "min_new_tokens": GENERATED}


def saved(subject: Subject, folder: Path, **changes: Any) -> Composed:
    """A fitted model, written to a folder; it stays installed on its own base."""
    composed, method = subject.fitted(), subject.method()
    pool = subject.experts(tiny_llama(dtype=torch.float64))
    task = {"task": "a", "own": own(composed)} if method.per_task() else {}
    methods.save(folder, composed, method, pool, seed=0, base="tiny", **task, **changes)
    return composed


def greedy(model: Any, **options: Any) -> torch.Tensor:
    ids, mask = left_padded()
    made: torch.Tensor = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=GENERATED,
        min_new_tokens=GENERATED,
        do_sample=False,
        **options,
    )
    return made


@pytest.mark.parametrize(("name", "overrides"), ALL, ids=[registry.display(*one) for one in ALL])
def test_what_is_loaded_is_what_was_saved(name: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    composed = saved(Subject(name, overrides), tmp_path)
    base = tiny_llama(dtype=torch.float64)
    plain = logits(base)
    model = methods.load(tmp_path, base)
    assert model is base
    assert torch.equal(logits(model), logits(composed))
    assert type(model.lora_composed) is type(composed)
    ids, mask = left_padded()
    composed.context.prompt_mask = mask.bool() if not composed.kv_cache or composed.whole_prompts else None
    expected = generate(composed.model, ids, mask, use_cache=composed.kv_cache)
    assert torch.equal(greedy(model), expected)
    assert model.lora_composed.context.prompt_mask is None
    methods.unload(model)
    assert torch.equal(logits(model), plain)
    assert "generate" not in vars(model)
    assert not hasattr(model, "lora_composed")


def test_a_prompt_is_marked_once_and_kept_while_the_text_grows(tmp_path: Path) -> None:
    """Negative control: without the mark, a growing text without a cache is all prompt, and other texts come out."""
    saved(Subject("mole", {"gate.scope": "prompt_mean"}), tmp_path)
    model = methods.load(tmp_path, tiny_llama(dtype=torch.float64))
    marks: list[torch.Tensor] = []
    inner = model.base_model
    inner.register_forward_hook(lambda *_: marks.append(model.lora_composed.context.prompt_mask))
    greedy(model)
    _, mask = left_padded()
    assert len(marks) == GENERATED
    assert all(torch.equal(one, mask.bool()) for one in marks)
    marks.clear()
    type(model).generate(model, left_padded()[0], attention_mask=mask, max_new_tokens=2, use_cache=False)
    assert marks[0] is None


@pytest.mark.parametrize(("name", "overrides"), WHOLE_PROMPTS, ids=[name for name, _ in WHOLE_PROMPTS])
def test_beams_keep_their_prompts(name: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    saved(Subject(name, overrides), tmp_path)
    model = methods.load(tmp_path, tiny_llama(dtype=torch.float64))
    ids, mask = left_padded()
    together = greedy(model, num_beams=3)
    alone = model.generate(ids[:1], attention_mask=mask[:1], **LENGTH, num_beams=3)
    assert torch.equal(together[:1], alone)


@pytest.mark.parametrize("name", STATIC)
def test_a_static_composition_is_an_ordinary_adapter(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    subject = Subject(name)
    model = tiny_llama()
    composed = subject.install(model)
    if subject.method().trains():
        source = subject.fitted()
        composed.load_state({k: v.to(composed.state()[k].dtype) for k, v in source.state().items()})
    save_expert(composed.merged("merged"), tmp_path, base_model="tiny")
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(tiny_llama(), str(tmp_path)).eval()
        assert (logits(adapted) - logits(composed)).abs().max() < 1e-5
    assert (logits(tiny_llama()) - logits(composed)).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in registry.names() if name not in STATIC])
def test_what_depends_on_the_input_is_no_adapter(name: str) -> None:
    with pytest.raises(Unsupported, match="depends on the input"):
        Subject(name).install().merged("merged")


def test_fits_of_several_tasks_share_a_folder_and_one_is_chosen(tmp_path: Path) -> None:
    subject, model = Subject("lorahub"), tiny_llama(dtype=torch.float64)
    composed, pool = subject.install(), subject.experts(model)
    for task, weights in (("a", [1.0, 0, 0, 0]), ("b", [0, 1.0, 0, 0])):
        composed.load_state({"weights": torch.tensor(weights, dtype=torch.float64)})
        methods.save(tmp_path, composed, subject.method(), pool, seed=0, base="tiny", task=task, own=task)
    with pytest.raises(SavedModelError, match="task='a' or task='b'"):
        methods.load(tmp_path, model)
    with pytest.raises(SavedModelError, match="no fit for the task 'c'"):
        methods.load(tmp_path, model, task="c")
    assert torch.equal(logits(methods.load(tmp_path, model, task="b")), logits(composed))
    methods.unload(model)
    assert not torch.equal(logits(methods.load(tmp_path, model, task="a")), logits(composed))


def test_the_oracle_asks_for_the_task(tmp_path: Path) -> None:
    subject = Subject("lora")
    pool = subject.experts(tiny_llama())
    with pytest.raises(SavedModelError, match="give task"):
        methods.save(tmp_path, subject.install(), subject.method(), pool, seed=0, base="tiny")


def test_a_base_of_other_shapes_is_refused_by_name(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    saved(Subject("mixer"), tmp_path)
    config = tiny_llama().config
    config.update({"num_key_value_heads": 4, "num_hidden_layers": 3})
    with pytest.raises(SavedModelError) as refused:
        methods.load(tmp_path, LlamaForCausalLM(config))
    message = str(refused.value)
    assert "model.layers.*.self_attn.k_proj is 16x32 there and 32x32 here (in 2 layers)" in message
    assert "missing there" in message
    wider = tiny_llama().config
    wider.update({"vocab_size": 80})
    methods.load(tmp_path, LlamaForCausalLM(wider))


def test_the_base_that_the_manifest_names_is_loaded(tmp_path: Path) -> None:
    tiny_llama(dtype=torch.float64).save_pretrained(tmp_path / "base")
    composed = saved(Subject("mixer"), tmp_path / "mixer", location=str(tmp_path / "base"))
    model = methods.load(tmp_path / "mixer")
    assert next(model.parameters()).dtype == torch.float64
    assert torch.equal(logits(model), logits(composed))
    half = methods.load(tmp_path / "mixer", dtype="bfloat16")
    assert logits(half).dtype == torch.bfloat16
    with pytest.raises(SavedModelError, match="already has a composition"):
        methods.load(tmp_path / "mixer", half)
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(SavedModelError, match="tiny cannot be loaded"):
        methods.load(tmp_path / "mixer")
    again = methods.load(tmp_path / "mixer", tmp_path / "elsewhere")
    assert torch.equal(logits(again), logits(composed))


def test_experts_by_reference_are_found_again_by_their_hash(tmp_path: Path) -> None:
    subject, model = Subject("mixer"), tiny_llama(dtype=torch.float64)
    sources = {
        expert.name: Source(tmp_path / expert.name)
        for expert in subject.experts(model)
        if save_expert(expert, tmp_path / expert.name, base_model="tiny")
    }
    composed = saved(subject, tmp_path / "mixer", sources=sources, refer=True)
    assert not (tmp_path / "mixer" / "experts").exists()
    with pytest.raises(SavedModelError, match=r"'a' with hash .* saved by reference"):
        methods.load(tmp_path / "mixer", model)
    places = {name: source.folder for name, source in sources.items()}
    with pytest.raises(SavedModelError, match="is not the expert 'a'"):
        methods.load(tmp_path / "mixer", model, experts=places | {"a": places["b"]})
    assert torch.equal(logits(methods.load(tmp_path / "mixer", model, experts=places)), logits(composed))


def test_copied_experts_keep_their_files(tmp_path: Path) -> None:
    subject, model = Subject("uniform"), tiny_llama(dtype=torch.float64)
    pool = [save_expert(expert, tmp_path / expert.name, base_model="tiny") for expert in subject.experts(model)]
    saved(subject, tmp_path / "saved", sources={expert.name: Source(tmp_path / expert.name) for expert in pool})
    for expert in pool:
        assert load_expert(expert.name, tmp_path / "saved" / "experts" / expert.name).digest == expert.digest


def test_broken_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"no manifest\.json"):
        methods.load(tmp_path, tiny_llama())
    saved(Subject("mixer"), tmp_path / "mixer")
    manifest = tmp_path / "mixer" / "manifest.json"
    content = json.loads(manifest.read_text())
    base = tiny_llama(dtype=torch.float64)
    for changes, words in (
        ({"version": content["version"] + 1}, "version"),
        ({"schema_version": 99}, "schema 99"),
        ({"schema_version": 99, "new": 1}, "schema 99"),
        ({"seed": "x"}, "seed"),
    ):
        manifest.write_text(json.dumps({**content, **changes}))
        with pytest.raises(SavedModelError, match=words):
            methods.load(tmp_path / "mixer", base)
    manifest.write_text(json.dumps(content))
    with pytest.raises(SavedModelError, match="another composed model"):
        saved(Subject("mixer", {"route.eval_k": 1}), tmp_path / "mixer")
    with pytest.raises(SavedModelError, match="not empty"):
        saved(Subject("mixer"), tmp_path)


def test_a_state_of_other_shapes_is_refused_and_the_base_left_clean(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(Subject("mixer"), tmp_path)
    file = next(tmp_path.rglob("composed.safetensors"))
    state = load_file(str(file))
    name = sorted(state)[0]
    save_file({**state, name: state[name][:1].contiguous()}, str(file))
    model = tiny_llama(dtype=torch.float64)
    plain = logits(model)
    with pytest.raises(SavedModelError, match="does not fit"):
        methods.load(tmp_path, model)
    assert torch.equal(logits(model), plain)


def test_listing_methods_with_load_at_hand_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, methods; dir(methods); print('torch' in sys.modules, 'load' in methods.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False True"
