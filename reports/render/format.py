"""Numbers as text, the same in every renderer."""

from __future__ import annotations

from reports.tables import NOT_RUN, Cell, Column

DECIMALS = {"%": 1, "score": 1, "bits/byte": 3, "mcc": 3, "count": 0, "s": 1, "p": 3, "points": 1, "GiB": 2}


def number(value: float, column: Column) -> str:
    """A value in the column's unit; thousands separated by commas, p-values never shown as zero."""
    decimals = DECIMALS.get(column.unit, 2) if column.decimals is None else column.decimals
    if column.unit == "p" and value < 0.001:
        return "< 0.001"
    if column.unit == "points":
        return f"{value:+.{decimals}f}".replace("-", "−")
    return f"{value:,.{decimals}f}".replace("-", "−")


def value(cell: Cell, column: Column) -> str:
    """The cell's text, its number with the spread over seeds, or the sign for not run."""
    if cell.text is not None:
        return cell.text
    if cell.value is None:
        return NOT_RUN
    shown = number(cell.value, column)
    if cell.std is not None:
        shown += f" ± {number(abs(cell.std), _unsigned(column))}"
    return shown


def interval(cell: Cell, column: Column) -> str:
    """The interval in brackets; empty where none exists."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{number(cell.low, column)}, {number(cell.high, column)}]"


def heading(column: Column) -> str:
    """Column label with the unit where the values alone do not say it."""
    unit = {"%": "", "count": "", "p": "", "text": "", "number": ""}.get(column.unit, column.unit)
    arrow = " ↓" if column.higher_is_better is False else ""
    return f"{column.label}{f' ({unit})' if unit else ''}{arrow}"


def _unsigned(column: Column) -> Column:
    from dataclasses import replace

    return replace(column, unit="%", decimals=DECIMALS["points"]) if column.unit == "points" else column
