"""`harness compare`: the difference of every pair that was asked about, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.comparison import families, sentences_on_means
from reports.decisions import of_scarce, size_to_decide
from reports.notes import distinct, in_unit, margin_text
from reports.panel import Options
from reports.ranking import MEAN
from reports.scores import Items
from reports.statistics import MIN_SEEDS, PairedTest
from reports.tables import Cell, Column, Panel, Row, Table, display_unit
from results.schema import Record


def difference_table(
    records: Sequence[Record], items: Items, methods: Sequence[str] | None = None, options: Options | None = None
) -> Table:
    """Paired tests over items and seeds, Holm-corrected per family of a panel.

    Args:
        records: of all statuses.
        methods: display names, tested together: the first against the others, if `options` name none. By default all
            methods of each track, except those that are told the task at test time.
        options: metric, method that the others are compared with (or all pairs), and margin.

    Returns:
        One row per pair and task: difference, interval, p, corrected p, verdict, what would decide an open one, items,
        seeds, share of items that differ.
    """
    options = options or Options()
    if methods and not options.against:
        options = replace(options, against=tuple(methods[:1]))
    done = [record for record in records if record.status == "done"]
    panels: list[Panel] = []
    kinds: list[str] = []
    asked: list[str] = []
    units: list[str] = []
    margins: list[str] = []
    left_out: list[str] = []
    for key, heading, tests, columns, means in families(done, items, methods, options):
        left_out += sentences_on_means(replace(options, metric=None), list(columns), means)
        rows = []
        against = tests.question.against
        asked.append(f"{against} against each other method" if against else "every pair of methods")
        for (task, a, b), test in tests.tests.items():
            of = tests.mean_of if task == MEAN else (task,)
            one = next(iter(columns[of[0]].values()))
            units.append(display_unit(one.unit)[0])
            kinds.append(test.method)
            if test.margin is not None:
                margins.append(margin_text(test.margin, {a: one}))
            cells = _cells(task, a, b, test, one.unit, one.higher_is_better)
            if test.outcome == "undecided":
                test = test.over([tests.tests[name, a, b] for name in of])
                cells["decides"] = Cell(text=size_to_decide(test, 0.05 / max(1, tests.size(task)), (a, b)))
            rows.append(Row(f"{task}:{a}:{b}", f"{a} − {b}", cells, "data"))
        panels.append(Panel(key, heading, tuple(sorted(rows, key=lambda row: not row.key.startswith(f"{MEAN}:")))))
    table_columns = (
        Column("task", "task", "text", None),
        *_difference_columns(distinct(units)),
        Column("p", "p", "p", None),
        Column("corrected", "p (Holm)", "p", None),
        Column("verdict", "verdict at 5 %", "text", None),
        Column("decides", "would decide", "text", None),
        Column("items", "items", "count", None),
        Column("seeds", "seeds", "count", None),
        Column("discordant", "items that differ, %", "%", None),
    )
    notes = [*_sentences(asked, kinds, margins, options.metric), *distinct(left_out)]
    return Table("compare", "Paired comparison", table_columns, tuple(panels), "pair", tuple(notes))


def _difference_columns(units: Sequence[str]) -> tuple[Column, ...]:
    """The difference in its unit; where tasks differ in that, each row says it."""
    points = Column("difference", "difference", "points", None, decimals=1)
    if len(units) > 1:
        return replace(points, unit="number", decimals=3), Column("unit", "unit", "text", None)
    return (points if units in ([], ["%"]) else replace(points, unit=units[0], decimals=3),)


def _sentences(asked: Sequence[str], kinds: Sequence[str], margins: Sequence[str], metric: str | None) -> list[str]:
    """What was asked, how it was tested, and how to read the columns."""
    notes = [f"Asked: {' and '.join(distinct(asked))}.", f"Tests: {'; '.join(distinct(kinds))}."]
    if metric:
        notes.append(f"Metric: {metric}.")
    notes.append(
        "p (Holm) is corrected over the tests on the mean of a panel, and over those on its single tasks as a second "
        "family; intervals (95 %, uncorrected) cover items and seeds."
    )
    if margins:
        notes.append(
            f"Equivalent: within {' or '.join(distinct(margins))}, by two one-sided tests, corrected likewise."
        )
    notes.append("Would decide: the fewest items and seeds with 80 % power, if difference and spread stay as measured.")
    notes.append("Seeds: those that were run; 1 where no seed changes either of the two.")
    return notes


def _cells(task: str, a: str, b: str, test: PairedTest, unit: str, higher_is_better: bool) -> dict[str, Cell]:
    shown, factor = display_unit(unit)
    return {
        "task": Cell(text="mean of tasks" if task == MEAN else task),
        "difference": Cell(
            test.difference * factor,
            None if test.low != test.low else test.low * factor,
            None if test.high != test.high else test.high * factor,
            n=test.n_items,
            seeds=test.n_seeds,
        ),
        "unit": Cell(text="points" if shown == "%" else shown),
        "p": Cell(test.p),
        "corrected": Cell(test.p_holm),
        "verdict": Cell(text=_verdict(test, a, b, unit, higher_is_better)),
        "decides": Cell(text="–"),
        "items": Cell(float(test.n_items)),
        "seeds": Cell(float(test.n_seeds)),
        "discordant": Cell(100 * test.discordant),
    }


def _verdict(test: PairedTest, a: str, b: str, unit: str, higher_is_better: bool) -> str:
    if test.significant:
        better = a if (test.difference > 0) == higher_is_better else b
        return f"{better} better" + (f", by less than {in_unit(test.margin or 0.0, unit)}" if test.equivalent else "")
    if test.equivalent:
        return f"equivalent within {in_unit(test.margin or 0.0, unit)}"
    if not test.decisive and test.n_items:
        return f"undecided (fewer than {MIN_SEEDS} seeds{of_scarce(test, (a, b))})"
    return f"undecided ({test.note})" if test.note else "undecided"
