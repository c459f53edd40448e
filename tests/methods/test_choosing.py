"""The page for choosing a method sorts them by what their code says: what they need, and what serving them costs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from methods import registry
from methods.base import Composed, Unsupported
from methods.conformance import POOL, Subject
from methods.tiny import TinySession

PAGE = Path(__file__).parents[2] / "docs" / "choosing.md"
NEEDS = ("the LoRAs alone", "some rows, nothing trained", "rows to train on", "experts may be trained")
COSTS = ("nothing", "routing per prompt", "routing per token", "several passes")


def need(name: str) -> str:
    """What a method asks of its user."""
    method = Subject(name).method()
    if method.track == "joint":
        return NEEDS[3]
    if method.has_learning_rate():
        return NEEDS[2]
    return NEEDS[1] if method.trains() else NEEDS[0]


def cost(name: str) -> str:
    """What remains to be done for each request."""
    subject = Subject(name)
    composed = subject.install(subject.model(torch.float32))
    if subject.method().passes(len(POOL)) > 1:
        return COSTS[3]
    if composed.whole_prompts:
        return COSTS[1]
    if not _merged(composed) and need(name) == NEEDS[1]:
        subject.method().fit(composed, TinySession())  # what is chosen on rows is known afterwards
    return COSTS[0] if _merged(composed) else COSTS[2]


def _merged(composed: Composed) -> bool:
    try:
        composed.merged("served")
    except Unsupported:
        return False
    return True


@cache
def sorted_by_code() -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for name in registry.names():
        if registry.card(name).track != "reference":
            found.setdefault((need(name), cost(name)), []).append(name)
    return found


def sorted_by_page() -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(COSTS) + 1 and cells[0] in NEEDS:
            for column, cell in zip(COSTS, cells[1:], strict=True):
                if names := re.findall(r"\[`([^`]+)`\]", cell):
                    found[cells[0], column] = names
    return found


@pytest.mark.parametrize("row", NEEDS)
def test_the_page_sorts_methods_as_their_code_does(row: str) -> None:
    """Every method stands once, in the order of listings."""
    code, page = (
        {column: names for (at, column), names in each.items() if at == row}
        for each in (sorted_by_code(), sorted_by_page())
    )
    assert page == code


def test_the_page_is_short() -> None:
    assert len(PAGE.read_text().split()) <= 500
