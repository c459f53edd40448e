"""Rows that cannot be meant: `check` and `run` say one sentence, before anything is computed, and other tasks go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.commands.maintenance import check_command
from harness.commands.run import _places
from harness.planning.config import resolve
from harness.planning.variants import Variant
from harness.runs import Run
from results.ground.errors import HarnessError
from tasks import registry
from tests.tasks.conftest import ROWS, write_rows
from tests.tasks.damage import CASES, changed, write_with

pytestmark = [pytest.mark.assets, pytest.mark.model]


SOUND = ("mrpc", "rte", "qnli")
"""Tasks that lie beside the damaged one: routing wants a pool of three."""


def write_sound(root: Path, name: str) -> None:
    card = registry.card(name)
    splits, make = ROWS[card.set, card.config]
    for place, split in enumerate(splits):
        write_rows(root / card.set / card.config / f"{split}.jsonl", [make(100 * place + i) for i in range(40)])


def planned(model: Path, data: Path, tasks: list[str], methods: list[str], **values: Any) -> Run:
    """A run whose pool holds the tasks' experts and those of sound rows, planned and not computed."""
    experts = dict.fromkeys(registry.card(registry.parse(task)[0]).expert for task in tasks)
    sound = [name for name in SOUND if (data / "glue" / name).exists()]
    chosen = {"model": {"name": str(model)}, "data": str(data), "methods": methods, "tasks": tasks, **values}
    chosen.setdefault("experts", {"names": list(dict.fromkeys([*experts, *sound]))})
    return Run.start([Variant(resolve("smoke", chosen))], data / "run", fetch=False)


def refusals(run: Run) -> dict[tuple[str, str], str | None]:
    return {(cell.spec.method, cell.spec.task): cell.refusal for plan in run.plans for cell in plan.cells}


def said(function: Callable[..., object], *arguments: Any) -> str:
    with pytest.raises(HarnessError) as refused:
        function(*arguments)
    text = str(refused.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize(("name", "field", "value"), CASES)
def test_check_and_run_say_the_same_sentence(
    name: str, field: str, value: Any, tmp_path: Path, tiny_model: Path
) -> None:
    """Alone the task ends the plan; beside another it refuses its own cells, and where its only split is damaged,
    whose rows also train, those that need its expert."""
    other, third = [sound for sound in SOUND if sound != name][:2]
    for sound in (other, third, *(["mbpp"] if name == "humaneval" else [])):
        write_sound(tmp_path, sound)
    write_with(tmp_path, name, changed(field, value))
    sentence = said(check_command, name, str(tmp_path))
    assert f"Row 4 of {name}'s split {registry.card(name).roles.eval}" in sentence
    assert said(planned, tiny_model, tmp_path, [name], ["base", "mixer"]) == sentence

    run = planned(tiny_model, tmp_path, [name, other], ["base", "lora", "uniform", "mixer"])
    card = registry.card(name)
    alone = len(ROWS[card.set, card.config][0]) == 1 and not registry.create(name).only_evaluated
    spoilt = sentence if alone else None
    assert refusals(run) == {
        **{(method, name): sentence for method in ("base", "lora", "uniform", "mixer")},
        ("base", other): None,
        ("lora", other): None,
        ("uniform", other): spoilt,
        ("mixer", other): spoilt,
    }
    assert list(run.tasks()) == [other]
    assert list(run.faults) == [sentence]
    assert not run.path.exists()


@pytest.mark.parametrize("name", ["sst2", "boolq", "arc-c", "medqa", "mbpp", "gsm8k", "pubmedqa", "hellaswag"])
def test_rows_that_train_refuse_what_needs_their_expert(name: str, tmp_path: Path, tiny_model: Path) -> None:
    """And nothing else: neither the base model on any task nor an expert of another's rows needs them."""
    field, value = next((field, value) for task, field, value in CASES if task == name)
    for sound in SOUND:
        write_sound(tmp_path, sound)
    write_with(tmp_path, name, changed(field, value), split=registry.card(name).roles.train)
    sentence = said(check_command, name, str(tmp_path))
    assert f"Row 4 of {name}'s split {registry.card(name).roles.train}" in sentence
    run = planned(tiny_model, tmp_path, ["mrpc"], ["base", "lora", "uniform", "mixer"], experts=pool_of(name))
    assert refusals(run) == {
        ("base", "mrpc"): None,
        ("lora", "mrpc"): None,
        ("uniform", "mrpc"): sentence,
        ("mixer", "mrpc"): sentence,
    }


def pool_of(name: str) -> dict[str, list[str]]:
    return {"names": [registry.card(name).expert, *SOUND]}


LINES = ["", "no json", "[1, 2]", "{", '"text"', '{"sentence": "cut', "\x00\x01", '{"label": 1}']


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_files_that_hold_no_rows_are_one_sentence_too(line: str, split: str, tmp_path: Path, tiny_model: Path) -> None:
    for name in ("sst2", "mrpc"):
        write_sound(tmp_path, name)
    (tmp_path / "glue" / "sst2" / f"{split}.jsonl").write_text(line + "\n" if line else "")
    sentence = said(check_command, "sst2", str(tmp_path))
    assert split in sentence
    run = planned(tiny_model, tmp_path, ["sst2", "mrpc"], ["base", "uniform"])
    assert refusals(run) == {
        ("base", "sst2"): sentence,
        ("base", "mrpc"): None,
        ("uniform", "sst2"): sentence,
        ("uniform", "mrpc"): sentence if split == "train" else None,
    }


def damaged(root: Path, *names: str, **settings: str) -> None:
    """Sound rows of two tasks, and rows of others with one label that is none."""
    for name in SOUND:
        write_sound(root, name)
    for name in names:
        write_with(root, name, changed("label", 7), **settings)


def test_an_expert_from_outside_needs_no_rows_but_routing_data_must_be_sound(tmp_path: Path, tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    damaged(tmp_path, "sst2", split="train")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    pool = {"names": ["mrpc", "qnli", "sst2"], "paths": {"sst2": str(tmp_path / "adapter")}}
    run = planned(tiny_model, tmp_path, ["mrpc"], ["uniform", "mixer"], experts=pool)
    uniform, mixer = refusals(run).values()
    assert uniform is None
    assert "Row 4 of sst2's split train" in str(mixer)


def test_a_task_that_shares_an_expert_with_damaged_rows(tmp_path: Path, tiny_model: Path) -> None:
    """The expert learns from both, and on one alone it would be another; what needs no expert goes on."""
    write_sound(tmp_path, "arc-e")
    write_with(tmp_path, "arc-c", changed("answerKey", "Z"), split="train")
    found = refusals(planned(tiny_model, tmp_path, ["arc-e"], ["base", "lora"]))
    assert found["base", "arc-e"] is None
    assert "Row 4 of arc-c's split train" in str(found["lora", "arc-e"])


def test_problems_that_train_nothing_spoil_no_expert(tmp_path: Path, tiny_model: Path) -> None:
    for name in ("mbpp", "mrpc", "qnli"):
        write_sound(tmp_path, name)
    write_with(tmp_path, "humaneval", changed("entry_point", "another"))
    assert refusals(planned(tiny_model, tmp_path, ["mbpp"], ["lora", "mixer"])) == {
        ("lora", "mbpp"): None,
        ("mixer", "mbpp"): None,
    }


def test_every_task_that_is_damaged_is_named_where_nothing_is_left(tmp_path: Path, tiny_model: Path) -> None:
    damaged(tmp_path, "sst2", "rte")
    sentence = said(planned, tiny_model, tmp_path, ["sst2", "rte"], ["base", "uniform"])
    for name in ("sst2", "rte"):
        assert f"Row 4 of {name}'s split validation" in sentence


def test_damage_in_what_is_evaluated_changes_the_expert_that_is_trained_beside_it(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Its training rows were held apart from the evaluated ones that could be read; mended, there is one more."""
    damaged(tmp_path, "sst2")
    before = planned(tiny_model, tmp_path, ["mrpc"], ["uniform"], experts=pool_of("sst2") | {"seed": 1})
    write_sound(tmp_path, "sst2")
    after = planned(tiny_model, tmp_path, ["mrpc"], ["uniform"], experts=pool_of("sst2") | {"seed": 1})
    pools = [{expert.name: expert.key for expert in run.plans[0].cells[0].pool} for run in (before, after)]
    assert pools[0].keys() == pools[1].keys()
    assert pools[0]["sst2"] != pools[1]["sst2"]
    assert pools[0]["mrpc"] == pools[1]["mrpc"]


def test_mended_rows_make_another_cell_and_others_stay(tmp_path: Path, tiny_model: Path) -> None:
    damaged(tmp_path, "sst2")
    before = planned(tiny_model, tmp_path, ["sst2", "mrpc"], ["base"])
    write_sound(tmp_path, "sst2")
    after = planned(tiny_model, tmp_path, ["sst2", "mrpc"], ["base"])
    keys = [[cell.key for cell in run.plans[0].cells] for run in (before, after)]
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]
    assert not after.faults


def test_a_run_computes_what_it_can_and_ends_with_code_1(
    tmp_path: Path, tiny_model: Path, harness: Callable[..., Any]
) -> None:
    damaged(tmp_path, "sst2")
    line = [
        "run",
        "--preset",
        "smoke",
        "--tasks",
        "sst2,mrpc",
        "--methods",
        "base",
        "--experts",
        "mrpc",
        "--limit",
        "4",
    ]
    places = ["--model", str(tiny_model), "--data", str(tmp_path), "--output", str(tmp_path / "run")]
    shown = harness(*line, *places, "--plan", stages=tmp_path / "stages")
    assert shown.returncode == 0, shown.stderr
    assert "no: Row 4 of sst2's split validation" in shown.stdout
    for _ in range(2):
        ran = harness(*line, *places, stages=tmp_path / "stages")
        assert ran.returncode == 1, ran.stderr
        assert "has label 7: give 0 or 1. Refused for it: base on sst2." in ran.stderr
        assert "refused: base on sst2: Row 4 of sst2's split validation (glue/sst2)" in ran.stderr
        assert "Traceback" not in ran.stderr
        records = [json.loads(file.read_text()) for file in (tmp_path / "run").glob("cells/*/record.json")]
        assert {(one["spec"]["task"], one["status"]) for one in records} == {("sst2", "refused"), ("mrpc", "done")}
    write_sound(tmp_path, "sst2")
    ran = harness(*line, *places, stages=tmp_path / "stages")
    assert ran.returncode == 0, ran.stderr
    assert "base on sst2: planned anew" in ran.stderr


def test_one_task_under_two_names_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    write_sound(tmp_path, "sst2")
    with pytest.raises(HarnessError, match=r"The task sst2@0-shot is chosen twice, as sst2 too: leave one out\."):
        planned(tiny_model, tmp_path, ["sst2", "sst2@0-shot"], ["base"], experts={"names": ["sst2"]})


def test_many_refused_cells_are_counted(tmp_path: Path, tiny_model: Path) -> None:
    damaged(tmp_path, "sst2", split="train")
    run = planned(tiny_model, tmp_path, ["sst2", "mrpc"], ["base", "lora", "uniform", "mixer", "mole", "lorahub"])
    (cells,) = run.faults.values()
    assert _places(cells).startswith("base on sst2, lora on sst2, uniform on sst2, uniform on mrpc, ")
    assert _places(cells).endswith(" and 4 more")


def test_a_gold_answer_longer_than_the_context_ends_its_own_cells_alone(
    tmp_path: Path, tiny_model: Path, harness: Callable[..., Any]
) -> None:
    """It is a good row, which only a model's context makes too long: the cell fails when it is evaluated."""
    write_sound(tmp_path, "mrpc")
    write_with(tmp_path, "gsm8k", changed("answer", f"{'so ' * 4000}\n#### 5"))
    line = [
        "run",
        "--preset",
        "smoke",
        "--tasks",
        "gsm8k,mrpc",
        "--methods",
        "base",
        "--experts",
        "mrpc",
        "--limit",
        "8",
    ]
    places = ["--model", str(tiny_model), "--data", str(tmp_path), "--output", str(tmp_path / "run")]
    ran = harness(*line, *places, "--set", "eval.max_new_tokens=2", stages=tmp_path / "stages")
    assert ran.returncode == 1, ran.stderr
    assert "failed: base on gsm8k: " in ran.stderr
    assert "exceeds the model's 2048: shorten it" in ran.stderr
    assert "Traceback" not in ran.stderr
    records = [json.loads(file.read_text()) for file in (tmp_path / "run").glob("cells/*/record.json")]
    assert {(one["spec"]["task"], one["status"]) for one in records} == {("gsm8k", "failed"), ("mrpc", "done")}
