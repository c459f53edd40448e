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
UNFINISHED = {
    "smollm2-135m/gemma3-270m": [
        "dee85cd97433389f (mole on sst2)",
        "078b8c125ef63851 (mole on qqp)",
        "fe39ae8da88adaba (mole on arc-e)",
        "416ecda057e9ad31 (mole on piqa)",
        "b3e89aa2b7359c97 (mole on boolq)",
        "2db5f755a949e326 (mixer-none on sst2)",
        "ece2f6b02686a38c (mixer-none on qqp)",
        "00b1912c8dbc60cf (mixer-none on arc-e)",
        "7cb8dc4184468909 (mixer-none on piqa)",
        "117e69cd57719486 (mixer-none on boolq)",
    ]
}
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
