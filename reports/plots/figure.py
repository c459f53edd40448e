"""Plots as data: what is drawn, before anything draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["bars", "rows", "lines", "scatter", "heat"]


@dataclass(frozen=True)
class Series:
    """One line, group of bars or cloud of points. `low` and `high` bound intervals; None where there is none."""

    name: str
    x: tuple[float | str, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A line at a value, or a band up to `high` when that is given, with its meaning."""

    label: str
    value: float
    high: float | None = None


@dataclass(frozen=True)
class Axes:
    """One coordinate system. For `heat`: one series per row, its `x` the columns, its `y` the values. For `rows`: the
    names in `x` stand below each other, values go to the right; systems side by side have the same names.

    `zlabel` says what the colours of a heat map mean. `center` is the value of its neutral colour where values lie on
    both sides of one; the colours then reach as far to either side.
    """

    kind: Kind
    xlabel: str
    ylabel: str
    series: tuple[Series, ...]
    title: str = ""
    references: tuple[Reference, ...] = ()
    log_x: bool = False
    zlabel: str = ""
    center: float | None = None


@dataclass(frozen=True)
class Figure:
    """Coordinate systems side by side, with the sentences that belong under them."""

    name: str
    title: str
    axes: tuple[Axes, ...]
    notes: tuple[str, ...] = ()

    def empty(self) -> bool:
        """Whether nothing was measured."""
        return not any(value is not None for axes in self.axes for series in axes.series for value in series.y)

    def csv(self) -> str:
        """The points as tidy CSV, full precision."""
        import csv
        from io import StringIO

        stream = StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["axes", "series", "x", "y", "low", "high", "xlabel", "ylabel"])
        for axes in self.axes:
            for series in axes.series:
                blank = (None,) * len(series.y)
                for x, y, low, high in zip(series.x, series.y, series.low or blank, series.high or blank, strict=True):
                    writer.writerow([axes.title, series.name, x, y, low, high, axes.xlabel, axes.ylabel])
        return stream.getvalue()
