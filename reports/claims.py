"""The paper's claims against what was measured: supported, contradicted, or undetermined and what would decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from reports.catalogue import Entry, entry
from reports.catalogue.entries import claim_rules
from reports.catalogue.model import moves
from reports.catalogue.select import Variants
from reports.catalogue.series import points
from reports.checks import CHECKS
from reports.decisions import items_to_decide
from reports.evidence import (
    COMPATIBLE,
    ELSEWHERE,
    EXCLUDED,
    Claim,
    Evidence,
    Verdict,
    mean_difference,
    place,
    published_gain,
    seeds_words,
)
from reports.notes import budget_sentence, distinct, model_sentence
from reports.scores import Items, row_name
from reports.statistics import MIN_SEEDS, PairedTest, holm
from reports.tables import Cell, Column, Note, Panel, Row, Table
from results.schema import Record

GAINS: tuple[tuple[str, str, str, str], ...] = (
    *(("t2", "mixer", other, "") for other in ("lorahub", "mole", "lora")),
    ("t2", "mixer-joint", "mixlora", "mixer"),
    *(("t8", "mixer", other, "") for other in ("gmoe", "ds-moe", "aesl", "mixer-aux")),
    ("t5", "mixer", "base", "mixer-from-mistral-7b"),
    ("t6", "mixer", "phatgoose", ""),
    ("t21", "mixer", "phatgoose", ""),
    ("t4", "mixer", "lego", ""),
    ("t10", "mixer", "mole", ""),
    ("t10", "mixer-joint", "mixlora", "mixer"),
)
"""Table, method, baseline, and the method's published row where it goes by another name."""
TASK_GAINS: tuple[tuple[str, str, str, str, str], ...] = tuple(
    ("t21", "mixer", "phatgoose", "", task) for task in ("gsm8k", "cola", "arc-c")
)
"""The same with a task: the abstract's +3.79 on GSM8K, +2.90 on CoLA and +3.95 on ARC-C, which are Table 21's."""
AT_EQUAL_DATA = "t8/mixer/mixer-aux"
"""RSL and the plain loss with the same routing examples: Table 8 has no row for the latter, Table 9 a column."""
MOVED = "t5"
"""The table of parameters that are moved from another base model, whose row is named by where they come from."""
FAMILY = {"data", *("/".join(filter(None, (g[0], g[1], g[2], *g[4:]))) for g in (*GAINS, *TASK_GAINS))}
"""Claims that rest on one test: the family is fixed before anything is run."""


def claims(records: Sequence[Record], items: Items, variants: Variants | None = None) -> list[Claim]:
    """Every claim with its verdict; those that rest on one test are Holm-corrected together, measured or not.

    Args:
        records: of all statuses, on one base model; only finished ones count.

    Raises:
        ValueError: several base models.
    """
    return _judged(Evidence([r for r in records if r.status == "done"], items, variants or {}))


def _judged(evidence: Evidence) -> list[Claim]:
    return _corrected([*_gains(evidence), *(check(evidence) for check in CHECKS)])


def table(records: Sequence[Record], items: Items, variants: Variants | None = None) -> Table:
    """The claims as a table, judged on each base model by itself.

    Args:
        records: of all statuses; only finished ones count.
    """
    columns = tuple(
        Column(key, label, "text", None)
        for key, label in (
            ("source", "source"),
            ("verdict", "verdict at this scale"),
            ("size", "published size"),
            ("measured", "measured"),
            ("ran", "what was run"),
            ("decides", "what would decide"),
        )
    )
    done = [record for record in records if record.status == "done"]
    labels = distinct(record.model.label for record in done) or [""]
    panels, left = [], []
    for label in labels:
        evidence = Evidence([record for record in done if record.model.label == label], items, variants or {})
        of = label if len(labels) > 1 else ""
        panels.append(Panel(f"{of}/claims" if of else "claims", of, tuple(map(_row, _judged(evidence)))))
        left += [row_name(label, name, several=bool(of)) for name in evidence.several()]
    each = ", each base model by itself" if len(labels) > 1 else ""
    models = "; ".join(distinct(model_sentence(record) for record in done))
    budget = f", with {budget_sentence(done)}" if done else ""
    notes = (
        f"Measured on {models or 'nothing yet'}{budget}. The paper's models and budgets are others: a verdict is about "
        "the claim at this scale.",
        f"Supported: the measured effect has the claimed direction and its test rejects no difference at 5 %, "
        f"corrected over the {len(FAMILY)} claims of the list that rest on one test, measured or not{each}. "
        f"Contradicted: the same with the opposite direction. Undetermined: neither, or fewer than {MIN_SEEDS} seeds.",
        "Published size: whether the published number, over the tasks that were run, lies in the 95 % interval; it is "
        "a verdict of its own, and there is none where the paper has no more than a mean over other tasks.",
        *([f"In no claim, since they are several settings of one row: {', '.join(left)}."] if left else []),
        *(Note(f"Rule of {name}, fixed in advance: {rule}") for name, rule in claim_rules().items()),
    )
    title = "Claims of LoRA-Mixer (arXiv 2507.00029v2) against measurements"
    return Table("reproduction", title, columns, tuple(panels), "claim", notes)


def _row(claim: Claim) -> Row:
    return Row(
        claim.name,
        claim.text,
        {
            "source": Cell(text=claim.source),
            "verdict": Cell(text=claim.verdict, runs=claim.runs),
            "size": Cell(text=claim.size or "—"),
            "measured": Cell(text=claim.measured or "—"),
            "ran": Cell(text=claim.ran or "—"),
            "decides": Cell(text=claim.decides or "—"),
        },
        "data",
    )


def _gains(evidence: Evidence) -> list[Claim]:
    found = []
    for name, method, baseline, published_row, task in [*((*gain, "") for gain in GAINS), *TASK_GAINS]:
        one = entry(name).as_run(record.spec.method for record in evidence.records)
        row = published_row or method
        gain = _published(one, name, row, baseline, [task] if task else ())
        where = f"on {task}" if task else "on average"
        claim = Claim(
            "/".join(filter(None, (name, method, baseline, task))),
            f"{row} beats {baseline}"
            + (f" by {gain:.2f} points {where}" if gain is not None else f" {where}" if task else ""),
            place(one),
            gain=gain,
        )
        if name == MOVED:
            method, *others = filter(moves, one.methods)
            if others:
                ran, decides = ", ".join([method, *others]), "a run of one of these alone"
                found.append(replace(claim, verdict="undetermined", ran=ran, decides=decides))
                continue
        test, tasks, runs = mean_difference(one, evidence, method, baseline, task)
        if test is not None:
            ran = f"{method} and {baseline} on {', '.join(tasks)}"
            same = _published(one, name, row, baseline, tasks)
            measured = f"{points(test)} points"
            claim = replace(
                claim,
                test=test,
                methods=(method, baseline),
                gain=same,
                size=_size(test, gain, same),
                measured=measured,
                ran=f"{ran} ({test.n_items} items, {seeds_words(test.n_seeds)})",
                runs=runs,
            )
        found.append(claim)
    return found


def _published(one: Entry, name: str, method: str, baseline: str, tasks: Sequence[str]) -> float | None:
    """Published gain in points over some tasks, all that it is published for by default.

    At equal data it is that of Table 9 with Table 8's number of routing examples, which is a mean over seven tasks.
    """
    if f"{name}/{method}/{baseline}" != AT_EQUAL_DATA:
        return published_gain(one, method, baseline, tasks)
    data = entry("t9")
    if tasks and {*tasks} != {*data.tasks}:
        return None
    column = data.paper["columns"].index(one.paper["settings"]["routing_examples"])
    rows = data.paper["blocks"]["llama3-8b"]
    return float(rows[method][column] - rows[baseline][column])


def _size(test: PairedTest, claimed: float | None, same: float | None) -> str:
    """Whether the published size lies in the 95 % interval; nothing where too few seeds decide anything.

    Args:
        claimed: the published gain.
        same: the same over the tasks that were measured; None where it is not published.
    """
    if claimed is None or not test.decisive or math.isnan(test.low):
        return ""
    if same is None:
        return ELSEWHERE
    verdict = COMPATIBLE if test.low <= same / 100 <= test.high else EXCLUDED
    return verdict if math.isclose(same, claimed) else f"{verdict}: {same:.2f} points on what was run".replace("-", "−")


def _corrected(found: Sequence[Claim]) -> list[Claim]:
    """Verdicts of the claims that rest on one test, corrected over all of them: those not measured count as well.

    The family is fixed by the list of claims and not by what happens to be in a run: a claim without a test takes its
    place with p = 1, so that Holm's first step is the same for every run.
    """
    family_size = sum(claim.test is not None or claim.name in FAMILY for claim in found)
    tests = [claim.test for claim in found if claim.test is not None]
    absent = family_size - len(tests)
    placeholder = [replace(tests[0], p=1.0, p_equivalent=1.0)] * absent if tests else []
    corrected = iter(holm([*tests, *placeholder])[: len(tests)])
    judged = []
    for claim in found:
        if claim.test is None:
            judged.append(claim)
            continue
        test = next(corrected)
        verdict: Verdict = "undetermined"
        if test.significant:
            verdict = "supported" if test.difference > 0 else "contradicted"
        p = test.p if test.p_holm is None else test.p_holm
        decides = items_to_decide(test, claim.gain, 0.05 / family_size, claim.methods)
        note = "; equivalent within 1 point" if test.equivalent else ""
        judged.append(
            replace(
                claim,
                verdict=verdict,
                test=test,
                measured=f"{claim.measured}, p = {p:.3f}{note}",
                decides=decides if verdict == "undetermined" else "",
            )
        )
    return judged
