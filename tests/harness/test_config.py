"""Presets, overrides and the sentences for mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.planning.config import applied, load_preset, preset_names, resolve
from harness.planning.variants import Variant, default_folder
from results.ground.digest import digest
from results.ground.errors import HarnessError


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_and_says_what_it_is(name: str) -> None:
    config = resolve(name, {})
    assert config.preset == name
    assert config.summary


def test_target_modules_are_open_until_the_model_is_known() -> None:
    experts = resolve("smoke", {}).experts
    assert experts.target_modules is None
    with pytest.raises(ValueError, match="not resolved"):
        experts.targets  # noqa: B018
    assert resolve("smoke", {"experts": {"target_modules": ["q_proj"]}}).experts.targets == ("q_proj",)
    with pytest.raises(HarnessError, match=r"experts\.target_modules"):
        resolve("smoke", {"experts": {"target_modules": []}})


def test_the_flan_preset_is_table_3() -> None:
    """Model, experts, tasks, methods and LoRA settings are the catalogue's and the paper's."""
    from reports.catalogue.entries import entry, paper

    config, table, published = resolve("paper-flan-t5-large", {}), entry("t3"), paper()["tables"]["t3"]
    assert (config.tasks, config.methods) == (tuple(table.tasks), tuple(table.methods))
    assert (config.model.name, config.eval.prompt) == (table.settings["model.name"], table.settings["eval.prompt"])
    assert config.experts.paths == table.settings["experts.paths"]
    settings = published["settings"]
    assert (config.experts.rank, config.experts.alpha) == (settings["rank"], settings["lora_alpha"])
    assert (config.experts.lora_dropout, config.routers.examples) == (0.1, settings["routing_examples"])
    assert list(config.experts.targets) == settings["target_modules"]


def test_extends_merges_section_by_section() -> None:
    smoke, quick = load_preset("smoke"), load_preset("quick")
    assert smoke["experts"]["rank"] == 4
    assert smoke["experts"]["lr"] == quick["experts"]["lr"]


def test_a_file_can_extend_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: quick\neval: {limit: 7}\n")
    config = resolve(str(file), {})
    assert (config.preset, config.eval.limit, config.experts.tokens) == ("mine", 7, 12000)


def test_set_reaches_the_run_every_method_or_one_method() -> None:
    config = resolve("quick", {}, ["experts.rank=8", "loss.outer=0.5", "methods.mixer.loss.entropy.sign=-1"])
    assert config.experts.rank == 8
    assert config.method_overrides == {"*": {"loss.outer": 0.5}, "mixer": {"loss.entropy.sign": -1}}


def test_keys_of_the_judge_are_set_one_by_one() -> None:
    config = resolve("quick", {}, ["judge.preset=local", "judge.model=PATH", "judge.extra_body={a: 1}"])
    assert config.judge == {"preset": "local", "model": "PATH", "extra_body": {"a": 1}}
    assert config.method_overrides == {}
    assert resolve("quick", {}, ["judge.model=x", "judge={preset: deepseek}"]).judge == {"preset": "deepseek"}
    with pytest.raises(HarnessError, match="judge"):
        resolve("quick", {}, ["judge=deepseek"])


def test_numbers_without_a_dot_are_numbers() -> None:
    assert resolve("quick", {}, ["routers.lr=1e-3"]).routers.lr == pytest.approx(1e-3)


def test_alpha_is_twice_the_rank_unless_given() -> None:
    assert resolve("quick", {}).experts.alpha == 32
    assert resolve("quick", {"experts": {"lora_alpha": 5}}).experts.alpha == 5


@pytest.mark.parametrize(
    ("preset", "overrides", "sets", "words"),
    [
        ("quik", {}, [], ["quik", "quick"]),
        ("quick", {"experts": {"rnk": 3}}, [], ["experts.rnk", "experts.rank"]),
        ("quick", {"experts": {"rank": 0}}, [], ["experts.rank", "0"]),
        ("quick", {"seeds": ["x"]}, [], ["seeds", "'x'"]),
        ("quick", {}, ["experts.rank"], ["key=value"]),
        ("quick", {}, ["experts.rank=[1"], ["YAML"]),
        ("nothing.yaml", {}, [], ["nothing.yaml", "does not exist"]),
    ],
)
def test_a_mistake_is_one_sentence(preset: str, overrides: dict, sets: list[str], words: list[str]) -> None:
    with pytest.raises(HarnessError) as caught:
        resolve(preset, overrides, sets)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_broken_yaml_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("extends: quick\neval: {limit: 7\n")
    with pytest.raises(HarnessError, match="line 3"):
        resolve(str(file), {})


def test_a_circle_of_extends_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"extends: {two}\n")
    two.write_text(f"extends: {one}\n")
    with pytest.raises(HarnessError, match="extends itself"):
        load_preset(str(one))


def test_a_declared_comparison_is_about_a_method_of_the_run() -> None:
    chosen = {"methods": ["mixer", "mole"], "tasks": ["sst2"]}
    assert resolve("quick", {**chosen, "against": "mole"}).against == "mole"
    assert resolve("quick", {**chosen, "against": "all"}).against == "all"
    with pytest.raises(HarnessError, match="did you mean mole"):
        resolve("quick", {**chosen, "against": "mle"})


def test_a_run_that_is_extended_may_name_a_method_that_it_has_already() -> None:
    stored = resolve("quick", {"methods": ["mixer", "mole"], "tasks": ["sst2"], "against": "mole"})
    more = applied(stored.model_dump(mode="json"), {"methods": ["arrow"]}, present=["mixer", "mole"])
    assert (list(more.methods), more.against) == (["arrow"], "mole")
    with pytest.raises(HarnessError, match="Unknown method of this run"):
        applied(stored.model_dump(mode="json"), {"methods": ["arrow"]})


def test_only_a_declared_comparison_changes_the_name_of_a_run() -> None:
    config = resolve("quick", {"methods": ["mixer", "mole"], "tasks": ["sst2"]})
    before = config.model_dump(mode="json", exclude={"include", "include_functions", "against", "controls"})
    assert default_folder([Variant(config)]).name == f"quick-{digest(before, 8)}"
    assert default_folder([Variant(config.model_copy(update={"against": "mole"}))]) != default_folder([Variant(config)])
    controlled = config.model_copy(update={"controls": ("random-experts",)})
    assert default_folder([Variant(controlled)]) != default_folder([Variant(config)])
