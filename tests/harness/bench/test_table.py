"""The speed table says what the stored figures say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.bench.table import table

ROW: dict[str, Any] = {"name": "n", "peer": "p", "median": 2.0, "ratio": 3.456, "limit": 4.0, "target": 3.0}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "| n | p | 3.46x | 4.00x | at least 3x | `harness bench routing` |"),
        ({"reached": False}, "| n | p | 3.46x (missed) | 4.00x | at least 3x | `harness bench routing` |"),
        ({"kind": "overhead", "limit": None}, "| n | p | 3.46x | — | at most 3x | `harness bench routing` |"),
        ({"kind": "seconds"}, "| n | p | 2.00 s | 4.00x | at most 3 s | `harness bench routing` |"),
        (
            {"kind": "seconds", "memory": 0.5},
            "| n | p | 2.00 s, 0.50 GiB | 4.00x | at most 3 s | `harness bench routing` |",
        ),
    ],
)
def test_a_line_for_each_row(changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    row = {**ROW, "kind": "speed-up", "reached": True, **changes}
    plotted = {**row, "target": None}
    (tmp_path / "routing-prefill.json").write_text(json.dumps({"machine": {}, "rows": [row, plotted]}))
    assert table(tmp_path).splitlines()[2:] == [line]


def test_figures_of_another_model_come_last_and_name_it(tmp_path: Path) -> None:
    row = {**ROW, "kind": "speed-up", "reached": True}
    (tmp_path / "engine-other.json").write_text(json.dumps({"machine": {}, "model": "other", "rows": [row]}))
    (tmp_path / "routing.json").write_text(json.dumps({"machine": {}, "rows": [row]}))
    commands = [one.split(" | ")[-1] for one in table(tmp_path).splitlines()[2:]]
    assert commands == ["`harness bench routing` |", "`harness bench engine --model other` |"]


def test_figures_of_a_device_come_after_all_others_and_name_it(tmp_path: Path) -> None:
    row = {**ROW, "kind": "speed-up", "reached": True}
    for file, named in (
        ("accelerator-bf16", {"device": "cuda", "dtype": "bfloat16", "weights": "random"}),
        ("accelerator", {"device": "cuda", "dtype": "float32"}),
        ("routing-other", {"model": "other", "device": "cpu"}),
    ):
        (tmp_path / f"{file}.json").write_text(json.dumps({"machine": {}, **named, "rows": [row]}))
    commands = [one.split(" | ")[-1] for one in table(tmp_path).splitlines()[2:]]
    assert commands == [
        "`harness bench routing --model other` |",
        "`harness bench accelerator --device cuda --dtype bfloat16 --random-weights` |",
        "`harness bench accelerator --device cuda` |",
    ]


def test_the_page_of_speed_shows_the_stored_figures() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "speed.md").read_text()
    for line in table(root / "results" / "reference" / "speed").splitlines():
        assert line in page
