"""`harness reproduce` and `harness ablate`: what they plan, and a run on a tiny model from plan to picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.planning.experiments import chosen_entries, context, variants
from reports.catalogue import availability, entries, entry
from results.ground.errors import HarnessError
from results.store import RunFolder
from tests.harness.runs.command import printed

BUNDLED = context("bundled", "smollm2-135m")


def test_a_table_plans_what_is_at_hand_below_what_the_user_sets() -> None:
    (variant,) = variants(entry("t2"), "quick", {}, BUNDLED)
    config = variant.config
    assert variant.label == "t2"
    assert config.tasks == ("sst2", "gsm8k", "arc-e", "arc-c", "humaneval")
    assert config.methods == entry("t2").methods
    assert (config.eval.limit, config.eval.generative_limit) == (100, 20)
    (variant,) = variants(entry("t2"), "quick", {"limit": 5, "settings": {"tasks": ["sst2"]}}, BUNDLED)
    assert variant.config.tasks == ("sst2",)
    assert (variant.config.eval.limit, variant.config.eval.generative_limit) == (5, 5)


def test_the_papers_preset_takes_the_papers_settings() -> None:
    (variant,) = variants(entry("t2"), "paper-llama3-8b", {}, context("hub", ""))
    config = variant.config
    assert config.tasks == entry("t2").tasks
    assert (config.experts.rank, config.experts.lora_alpha, config.routers.examples) == (64, 128, 2000)
    assert (config.eval.prompt, config.eval.shots) == ("letters", 0)


def test_a_setting_makes_one_configuration_for_each_value() -> None:
    found = variants(entry("t9"), "quick", {}, BUNDLED)
    assert [variant.config.routers.examples for variant in found] == [32, 64, 128, 256]
    assert {variant.config.routers.tokens for variant in found} == {None}
    assert {variant.config.seeds for variant in found} == {(0,)}
    assert [variant.label for variant in found] == [f"t9:examples={n}" for n in (32, 64, 128, 256)]
    assert [v.config.experts.rank for v in variants(entry("rank"), "quick", {}, BUNDLED)] == [2, 4, 8, 16]


@pytest.mark.parametrize("preset", ["quick", "paper-llama3-8b"])
def test_other_values_take_the_place_of_the_papers_and_of_the_scaled_ones(preset: str) -> None:
    (one,) = chosen_entries("t9", {}, [16, 512])
    found = variants(one, preset, {"settings": {"routers.tokens": None}}, BUNDLED)
    assert [variant.config.routers.examples for variant in found] == [16, 512]
    assert [variant.label for variant in found] == ["t9:examples=16", "t9:examples=512"]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("t2", [32], "t2 varies nothing that --values could be of: leave it out"),
        ("all", [32], "all varies nothing that --values could be of"),
        ("t9", [], "--values takes numbers of routing examples above 0, each once"),
        ("t9", [0, 32], "--values takes numbers of routing examples above 0, each once"),
        ("rank", [4, 4], "--values takes numbers of rank above 0, each once"),
    ],
)
def test_values_that_nothing_takes_are_refused(name: str, values: list[int], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        chosen_entries(name, {}, values)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "data-size",
            {"routers.tokens": 100},
            "routers.tokens=100 can end before 32 of them: leave routers.tokens out",
        ),
        ("data-size", {"routers.tokens": 100_000}, "routers.tokens=100000 can end before 128 of them"),
        ("data-size", {"routers.examples": 100}, "data-size varies routers.examples itself: leave it out of --set"),
        ("t9", {"routers.examples": 64}, "t9 varies routers.examples itself"),
        ("rank", {"experts.rank": 8}, "rank varies experts.rank itself"),
    ],
)
def test_what_is_varied_cannot_be_fixed_or_capped(name: str, settings: dict[str, int], message: str) -> None:
    """Configurations that are equal under different labels would make a claim out of nothing."""
    with pytest.raises(HarnessError, match=message):
        variants(entry(name), "quick", {"settings": settings}, BUNDLED)


def test_a_cap_that_cannot_bind_is_taken() -> None:
    found = variants(entry("data-size"), "quick", {"settings": {"routers.tokens": 256 * 1024}}, BUNDLED)
    assert [variant.config.routers.examples for variant in found] == [32, 64, 128, 256]


def test_every_entry_that_is_said_to_run_can_be_configured() -> None:
    for one in entries():
        if availability(one, BUNDLED).state != "not":
            for variant in variants(one, "quick", {}, BUNDLED):
                assert variant.config.methods
                assert variant.config.tasks


def test_unknown_names_offer_the_nearest() -> None:

    with pytest.raises(HarnessError, match="did you mean"):
        chosen_entries("t222", {})


@pytest.mark.assets
@pytest.mark.model
@pytest.mark.parametrize(
    ("line", "written"),
    [
        (["ablate", "entropy-sign", "--set", "tasks=[sst2]"], ["entropy-sign.tex", "entropy-sign-plot.png"]),
        (
            ["ablate", "data-size", "--methods", "mixer", "--set", "tasks=[sst2,arc-e]"],
            ["data-size.md", "data-size-plot.pdf"],
        ),
        (["reproduce", "f6", "--format", "latex,html"], ["f6.tex", "f6.pdf", "f6.html"]),
    ],
)
def test_one_command_runs_and_renders(line: list[str], written: list[str], tiny_model: Path, tmp_path: Path) -> None:
    rest = ["--preset", "smoke", "--limit", "3", "--model", str(tiny_model), "--output", str(tmp_path / "run")]
    done = printed(*line, *rest, stages=tmp_path / "stages")
    assert done.returncode == 0, done.stderr
    run = RunFolder.open(tmp_path / "run")
    assert {record.status for record in run.records()} == {"done"}
    for name in written:
        path = run.reports / name
        assert path.stat().st_size > 500
        assert str(path) in done.stdout
