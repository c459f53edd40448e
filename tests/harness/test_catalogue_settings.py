"""What the catalogue's notes and the paper's transcription say of settings is what a run at the paper's scale gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.planning.experiments import context, variants
from harness.planning.sections import RunConfig
from reports.catalogue import ablations, entries
from reports.catalogue.model import Entry

EVERYTHING = [*entries(), *ablations()]
PRESET = "paper-llama3-8b"


def _configs(one: Entry) -> list[RunConfig]:
    here = context("./data", one.model or "meta-llama/Meta-Llama-3-8B", "another")
    return [variant.config for variant in variants(one, PRESET, {}, here)]


NOTES: dict[str, Callable[[RunConfig], bool]] = {
    "twice the rank": lambda c: c.experts.alpha == 2 * c.experts.rank,
    "2,000 is used": lambda c: c.routers.examples == 2000,
    "batch 1 with 4 accumulated": lambda c: (
        (c.model.dtype, c.experts.rank, c.experts.batch_size, c.experts.micro_batch_size) == ("float32", 64, 4, 1)
        and (c.routers.batch_size, c.routers.micro_batch_size) == (4, 1)
    ),
    "rank 16, alpha 32": lambda c: (c.experts.rank, c.experts.alpha) == (16, 32),
    "15 new tokens": lambda c: c.eval.max_new_tokens == 15,
    "QNLI, MNLI, SST-2 and CoLA": lambda c: set(c.experts.names or ()) == {"qnli", "mnli", "sst2", "cola"},
}
"""Words of a note, and what they say of the run's settings."""
PAPER: dict[str, Callable[[RunConfig], Any]] = {
    "rank": lambda c: c.experts.rank,
    "lora_alpha": lambda c: c.experts.alpha,
    "lora_dropout": lambda c: c.experts.lora_dropout,
    "target_modules": lambda c: list(c.experts.target_modules or ()),
    "routing_examples": lambda c: c.routers.examples,
}
"""Published settings of a table, and where they stand in a run."""


@pytest.mark.parametrize("one", EVERYTHING, ids=lambda one: one.name)
def test_notes_say_what_is_run(one: Entry) -> None:
    varied = one.axis.key if one.axis else ""
    said = {words: holds for words, holds in NOTES.items() if any(words in note for note in one.notes)}
    if varied == "routers.examples":
        said.pop("2,000 is used", None)
    for config in _configs(one):
        assert [words for words, holds in said.items() if not holds(config)] == []


@pytest.mark.parametrize("one", [one for one in EVERYTHING if one.paper.get("settings")], ids=lambda one: one.name)
def test_published_settings_are_those_of_the_run(one: Entry) -> None:
    for config in _configs(one):
        for key, value in one.paper["settings"].items():
            if key in PAPER and not (one.axis is not None and one.axis.key.endswith(key)):
                assert PAPER[key](config) == value, (one.name, key)


def test_alpha_is_twice_the_rank_wherever_the_rank_is() -> None:
    """The paper gives alpha = 128 for rank 64 and 12 for rank 6; Table 3's public LoRAs have their own."""
    ratios = {one.name: {c.experts.alpha / c.experts.rank for c in _configs(one)} for one in EVERYTHING if one.methods}
    assert {name: found for name, found in ratios.items() if found != {2.0}} == {}


@pytest.mark.parametrize("one", [one for one in entries() if one.model], ids=lambda one: one.name)
def test_a_table_about_another_model_is_run_on_that_model_or_marked(one: Entry) -> None:
    from reports.catalogue import availability

    other = context("hub", "meta-llama/Meta-Llama-3-70B", "another")
    assert "In shape only" in availability(one, other).reason


def test_words_that_are_checked_stand_in_some_note() -> None:
    """A check whose words no note has checks nothing."""
    said = " ".join(note for one in EVERYTHING for note in one.notes)
    assert [words for words in NOTES if words not in said] == []
