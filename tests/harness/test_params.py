"""`harness params`: the table of counts, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from results.ground.errors import HarnessError


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["params", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return " ".join(result.output.split())  # notes are wrapped


def test_counts_stand_beside_the_papers() -> None:
    text = printed("--methods", "base,mixer,mole,cat-soup,lorahub,mixer-joint")
    for number in ("3,145,728", "327,155,712", "0.0392", "0.0376", "1,966,208", "768", "3.88", "4.1132", "3.9507"):
        assert number in text
    assert "LLaMA-3-8B has 8,030,261,248 parameters" in text
    assert "54,525,952 parameters each (0.679 % of the base)" in text


def test_published_percentages_only_stand_beside_what_they_counted() -> None:
    chosen = ("--methods", "mixer,mixer[router.scope=global]")
    assert printed(*chosen).count("0.04") == 2  # the cell of mixer, and the note
    for change in (("--rank", "32"), ("--experts", "5"), ("--model", "mistral-7b"), ("--targets", "q_proj")):
        assert "paper" not in printed(*chosen, *change)


def test_tracks_are_apart_and_renderings_agree() -> None:
    markdown = printed("--methods", "mixer-joint,base,uniform", "--format", "md")
    order = [markdown.index(name) for name in ("Without composition", "uniform", "Experts trained too", "mixer-joint")]
    assert order == sorted(order)
    assert "330,301,440" in markdown
    assert r"\begin{tabular}" in printed("--methods", "base", "--format", "latex")


def test_rows_that_train_nothing_say_where_their_experts_come_from() -> None:
    text = printed("--methods", "base,lora,uniform,mixer")
    assert text.count("Nothing is trained in composing") == 2
    for experts in ("54,525,952", "327,155,712"):
        assert f"the {experts} parameters of its experts were trained before" in text


def test_what_a_method_refuses_is_a_footnote() -> None:
    text = printed("--methods", "uniform,mixer", "--experts", "2")
    assert "Top-3 routing needs more than 3 experts but 2 experts are in the pool" in text


def test_any_model_is_counted(tiny_model: Path) -> None:
    text = printed("--model", str(tiny_model), "--methods", "lora,mixer", "--rank", "4", "--experts", "4")
    # q and o: 32 to 32; k and v: 32 to 16; two layers.
    one = 2 * (2 * 4 * 64 + 2 * 4 * 48)
    assert f"{one:,} parameters each" in text
    assert f"{2 * 4 * 4 * 32:,}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "llama3-8"), "did you mean llama3-8b"),
        (("--methods", "mixr"), "Unknown method 'mixr'"),
        (("--methods", "mixer[loss.x=1]"), "no configuration key 'loss.x'"),
        (("--targets", "query_proj"), "has no linear layers named query_proj"),
        (("--format", "pdf"), "Unknown format 'pdf'"),
        (("--rank", "0"), "raise --rank"),
    ],
)
def test_mistakes_are_one_sentence(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["params", "--methods", "base", *arguments])
    assert isinstance(result.exception, HarnessError)
    assert message in str(result.exception)


def test_rows_whose_tokens_cost_several_passes_say_so() -> None:
    text = printed("--methods", "uniform,ensemble,xlora", "--experts", "5")
    assert text.count("Every token costs 5 passes of the base model.") == 1
    assert text.count("Every token costs 2 passes of the base model.") == 1
