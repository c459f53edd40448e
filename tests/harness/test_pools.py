"""What a method cannot do with a pool is said while planning, for its cells alone, and nothing is loaded for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.planning.config import resolve
from harness.planning.plan import Plan
from harness.planning.sources import open_source
from methods.experts import new_expert, save_expert
from results.ground.errors import HarnessError

pytestmark = [pytest.mark.assets, pytest.mark.model]

Make = Callable[..., Path]


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """An adapter of the tiny model, by name, targets and rank."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)

    def save(name: str, targets: tuple[str, ...] = ("q_proj", "v_proj"), r: int = 4) -> Path:
        expert = new_expert(name, model, targets, r=r, lora_alpha=8, seed=0)
        save_expert(expert, tmp_path / name, base_model="tiny", target_modules=targets)
        return tmp_path / name

    return save


def refusals(tiny_model: Path, methods: list[str], pool: Mapping[str, Path | None], **settings: Any) -> dict[str, Any]:
    """Why the cells of each method on SST-2 are refused, or None."""
    experts = {"names": list(pool), "paths": {name: str(path) for name, path in pool.items() if path}}
    values = {"model": {"name": str(tiny_model)}, "methods": methods, "tasks": ["sst2"], "experts": experts}
    config = resolve("smoke", values, [f"{key}={value}" for key, value in settings.items()])
    cells = Plan(config, open_source("bundled", fetch=False)).cells
    return {cell.method.display: cell.refusal for cell in cells}


def test_an_expert_without_rows_refuses_the_methods_that_need_each_experts_own(tiny_model: Path, make: Make) -> None:
    methods = ["lora", "uniform", "ties", "mixer", "phatgoose", "regmean", "best-single"]
    found = refusals(tiny_model, methods, {"math": make("math"), "sst2": None, "mrpc": None})
    assert found.pop("phatgoose") == (
        "a gate is trained on its own expert's examples, and this source has none for 'math'"
    )
    assert found.pop("regmean") == (
        "the inputs of every expert's own rows are looked at, and this source has none for 'math'"
    )
    assert set(found.values()) == {None}


def test_a_pool_without_any_rows_refuses_all_that_learn(tiny_model: Path, make: Make) -> None:
    methods = ["uniform", "mixer", "lorahub", "phatgoose", "multitask-lora", "best-single"]
    found = refusals(tiny_model, methods, {name: make(name) for name in ("math", "prose", "verse")})
    assert found.pop("uniform") is None
    assert found.pop("phatgoose").endswith("has none for 'math' and 'prose' and 'verse'")
    assert set(found.values()) == {"no expert of the pool has training data in this source"}


def test_a_pool_that_is_too_small_refuses_the_methods_that_keep_two_of_three(tiny_model: Path, make: Make) -> None:
    found = refusals(tiny_model, ["uniform", "mixer", "phatgoose"], {"math": make("math"), "sst2": None})
    assert found["uniform"] is None
    for method in ("mixer", "phatgoose"):
        assert found[method].startswith("Top-2 routing needs more than 2 experts but 2 experts are in the pool")


def test_where_no_method_suits_the_pool_the_plan_ends_in_one_sentence(tiny_model: Path, make: Make) -> None:
    with pytest.raises(HarnessError, match=r"^phatgoose: a gate .* has none for 'math'\.$"):
        refusals(tiny_model, ["phatgoose"], {"math": make("math"), "sst2": None, "mrpc": None})


def test_unequal_ranks_and_sites_refuse_lorahub_alone(tiny_model: Path, make: Make) -> None:
    for name, path in (("ranks", make("ranks", r=2)), ("sites", make("sites", targets=("q_proj",)))):
        found = refusals(tiny_model, ["lorahub", "uniform", "ties"], {name: path, "sst2": make("sst2")})
        assert found.pop("lorahub").startswith("LoRAHub adds the factors of its experts, and")
        assert set(found.values()) == {None}


def test_a_global_router_needs_one_width(tiny_model: Path, make: Make) -> None:
    """Every layer's router reads the input of its first site, so one layer may have a site of another width."""
    methods = ["mixer[router.scope=global]", "mixer"]
    wide = make("wide", targets=("layers.1.mlp.down_proj",))
    rest = {"sst2": make("sst2", targets=("layers.0.self_attn.q_proj",)), "mrpc": wide}
    found = refusals(tiny_model, methods, {"wide": wide, **rest})
    assert found == {
        methods[0]: "a global router needs inputs of one width: choose router.scope=per_layer",
        "mixer": None,
    }
    both = make("both", targets=("q_proj", "down_proj"))
    assert set(refusals(tiny_model, methods, {"both": both, "sst2": None, "mrpc": None}).values()) == {None}


def test_an_adapter_on_embeddings_ends_the_plan_in_one_sentence(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    wrapped.save_pretrained(str(tmp_path / "a"), save_embedding_layers=False)
    with pytest.raises(HarnessError, match="lora_embedding_A"):
        refusals(tiny_model, ["uniform"], {"sst2": tmp_path / "a", "mrpc": None})


def test_planning_reads_no_weights(tiny_model: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = {"math": make("math"), "sst2": None}

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("safetensors.torch.load_file", never)
    monkeypatch.setattr(torch, "load", never)
    assert refusals(tiny_model, ["lorahub", "uniform"], pool)["uniform"] is None


def test_a_run_goes_on_without_the_refused_cells(
    tiny_model: Path, make: Make, tmp_path: Path, harness: Callable[..., Any]
) -> None:
    from results.store import RunFolder

    arguments = [
        *("run", "--preset", "smoke", "--methods", "uniform,phatgoose", "--tasks", "sst2"),
        *("--limit", "2", "--model", str(tiny_model), "--output", str(tmp_path / "run")),
        *("--experts", f"math={make('math')},sst2={make('sst2')},mrpc={make('mrpc')}"),
    ]
    planned = harness(*arguments, "--plan", stages=tmp_path / "stages")
    assert planned.returncode == 0, planned.stderr
    assert "a gate is trained on its own expert's examples" in " ".join(planned.stdout.split())
    done = harness(*arguments, stages=tmp_path / "stages")
    assert done.returncode == 0, done.stderr
    records = RunFolder.open(tmp_path / "run").records()
    assert {record.spec.method_name: record.status for record in records} == {"uniform": "done", "phatgoose": "refused"}


def test_experts_on_the_output_layer_as_peft_saves_them_go_through_a_run(
    tiny_model: Path, tmp_path: Path, harness: Callable[..., Any]
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from results.store import RunFolder

    for seed, name in enumerate(("math", "sst2", "mrpc")):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
            wrapped.save_pretrained(str(tmp_path / name))
    methods = ("lora", "uniform", "mixer", "mole", "xlora", "lorahub", "ties", "regmean")
    done = harness(
        *("run", "--preset", "smoke", "--methods", ",".join(methods), "--tasks", "sst2", "--limit", "2"),
        *("--model", str(tiny_model), "--output", str(tmp_path / "run")),
        *("--experts", ",".join(f"{name}={tmp_path / name}" for name in ("math", "sst2", "mrpc"))),
        stages=tmp_path / "stages",
    )
    assert done.returncode == 0, done.stderr
    found = {
        record.spec.method_name: (record.status, record.error) for record in RunFolder.open(tmp_path / "run").records()
    }
    reason = "the inputs of every expert's own rows are looked at, and this source has none for 'math'"
    assert found == dict.fromkeys(methods, ("done", None)) | {"regmean": ("refused", reason)}
