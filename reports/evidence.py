"""What claims are judged on: records with their items, and the paired test behind a difference of means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reports.catalogue import entries
from reports.catalogue.model import Entry
from reports.catalogue.select import Variants, select
from reports.notes import distinct
from reports.ranking import MEAN, Question, family
from reports.scores import Items, Scores, gather, placed
from reports.statistics import PairedTest
from results.schema import Record

Verdict = Literal["supported", "contradicted", "undetermined", "not measured"]
COMPATIBLE, EXCLUDED = "published size not excluded", "published size excluded"
ELSEWHERE = "not judged: published as a mean over other tasks"


@dataclass(frozen=True)
class Claim:
    """One claim and its outcome.

    Attributes:
        text: the claim in words of our own.
        source: where the paper makes it.
        ran: what was measured for it.
        measured: the measured value with its interval, as text.
        decides: what would decide an undetermined claim.
        size: what is known of the published size, apart from the direction.
        test: of the direction, positive if the claim holds; corrected over the fixed family of all claims.
        gain: published gain in points, over the tasks that were measured where some were; None where the paper has it
            for others alone.
        methods: that the test compares.
    """

    name: str
    text: str
    source: str
    verdict: Verdict = "not measured"
    ran: str = ""
    measured: str = ""
    decides: str = ""
    runs: tuple[str, ...] = ()
    size: str = ""
    test: PairedTest | None = None
    gain: float | None = None
    methods: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Evidence:
    """Finished records of one base model with their items and planned labels.

    Raises:
        ValueError: there are several base models: a claim is judged on each by itself.
    """

    records: Sequence[Record]
    items: Items
    variants: Variants

    def __post_init__(self) -> None:
        if len({record.model.label for record in self.records}) > 1:
            raise ValueError("A claim is judged on one base model.")

    def of(self, one: Entry) -> list[Record]:
        """Finished records of an entry; of a row with several settings for one seed none, since a claim is on one."""
        found = select(one, self.records, self.variants)
        return [r for r, named in zip(found, placed(found), strict=True) if named.spec.method == r.spec.method]

    def several(self) -> list[str]:
        """Rows that `of` leaves out of the entries that vary no setting."""
        own = [select(one, self.records, self.variants) for one in entries() if one.methods and one.axis is None]
        pairs = ((record, named) for found in own for record, named in zip(found, placed(found), strict=True))
        return distinct(named.spec.method for record, named in pairs if named.spec.method != record.spec.method)


def mean_difference(
    one: Entry, evidence: Evidence, method: str, baseline: str, only: str = ""
) -> tuple[PairedTest | None, list[str], tuple[str, ...]]:
    grid = gather(evidence.of(one), evidence.items)
    by_task = {
        task: {key.method: scores for key, scores in grid.items() if key.task == task}
        for task in one.tasks
        if only in ("", task.split("@")[0])
    }
    shared = {
        task: {method: found[method], baseline: found[baseline]}
        for task, found in by_task.items()
        if method in found and baseline in found and in_points(found[method])
    }
    if not shared:
        return None, [], ()
    # The other methods of the table tell how much seeds matter.
    panel = {task: {m: found for m, found in by_task[task].items() if not _told(found)} for task in shared}
    panel = {task: {**column, **shared[task]} for task, column in panel.items()}
    tests = family(panel, list(panel), Question(method))
    test = tests.between(MEAN if len(shared) > 1 else next(iter(shared)), method, baseline)
    if test is not None:
        test = test.over([tests.tests[task, method, baseline] for task in shared])
    runs = tuple(r.cell for found in shared.values() for scores in found.values() for r in scores.records)
    return test, list(shared), runs


def in_points(scores: Scores) -> bool:
    """Whether differences are in points, as the paper's are: bits per byte answer none of its claims."""
    return scores.unit == "fraction" and scores.higher_is_better


def _told(scores: Scores) -> bool:
    return any(record.uses_task_identity for record in scores.records)


def published_gain(one: Entry, method: str, baseline: str, tasks: Sequence[str] = ()) -> float | None:
    """Mean published difference in points over some tasks, or all of the table's; None where it lacks one or a row.

    It is that on LLaMA-3-8B where it is published for several models.
    """
    blocks = one.paper.get("blocks", {})
    rows: dict[str, list[float]] = blocks.get("llama3-8b") or next(iter(blocks.values()), {})
    places = [str(column) for column in one.paper.get("columns", ())]
    if method not in rows or baseline not in rows or not {*tasks} <= {*places}:
        return None
    differences = dict(zip(places, np.array(rows[method]) - np.array(rows[baseline]), strict=True))
    return float(np.mean([differences[task] for task in tasks or places]))


def labels(evidence: Evidence, record: Record) -> Sequence[str]:
    return list(evidence.variants.get(record.cell, ()))


def place(one: Entry) -> str:
    return f"Table {one.name[1:]}"


def seeds_words(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def bounds_text(low: float, high: float, decimals: int = 1) -> str:
    return "" if math.isnan(low) else f" [{low:.{decimals}f}, {high:.{decimals}f}]"
