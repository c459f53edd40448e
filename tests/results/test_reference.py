"""Stored results: whoever clones the repository can make every test again, or reads which command does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports.api import compare_text
from reports.panel import asked
from results.store import RunFolder

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
FOLDERS = sorted(path.parent for path in REFERENCE.rglob("run.yaml"))
UNFINISHED = {"smollm2-135m/study-tuning": ["767aa5c1f793c19b (phatgoose on sst2)"]}
"""Cells that a page says were not finished."""
WITH_OUTCOMES = [folder for folder in FOLDERS if (folder / "cells").is_dir()]


def test_the_demo_holds_outcomes() -> None:
    assert REFERENCE / "demo" in WITH_OUTCOMES


@pytest.mark.parametrize("folder", WITH_OUTCOMES, ids=lambda folder: str(folder.relative_to(REFERENCE)))
def test_outcomes_fit_their_records_and_hold_no_texts(folder: Path) -> None:
    run = RunFolder.open(folder)
    lacks = UNFINISHED.get(str(folder.relative_to(REFERENCE)), [])
    assert run.verify() == [f"{cell} is not finished." for cell in lacks]
    for record in run.records():
        items = run.items(record.cell)
        assert not any(item.prompt for item in items)
        labels = {tuple(item.choices or ()) for item in items}
        assert len(labels) == 1, "choices differ between items, so they are texts of rows"
    if len({record.spec.method for record in run.records()}) > 1:
        assert "mixer" in compare_text([folder], None, asked(against="mixer"))


@pytest.mark.parametrize(
    "folder", [f for f in FOLDERS if f not in WITH_OUTCOMES], ids=lambda folder: str(folder.relative_to(REFERENCE))
)
def test_a_folder_without_outcomes_names_the_command_that_makes_them(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert re.search(r"`harness (run|reproduce) ", text)
    assert "--slim" in text
