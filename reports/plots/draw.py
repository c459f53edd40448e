"""Drawing with matplotlib: no window, vector and bitmap, readable in print and by the colour-blind."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.plots.figure import Axes, Figure, Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's colours, the yellow replaced by a brown that prints."""
MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "+++", "ooo")
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
}


def draw(figure: Figure) -> Drawing:
    """A matplotlib figure; one legend for all coordinate systems where they share their series."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context(STYLE):
        width = max(4.6, 3.7 * len(figure.axes), *(0.62 * _columns(axes) + 1.6 for axes in figure.axes))
        drawing = Drawing(figsize=(min(width, 11), 3.4), layout="constrained")
        FigureCanvasAgg(drawing)
        grid = drawing.subplots(1, len(figure.axes), squeeze=False)[0]
        shared = len({tuple(series.name for series in axes.series) for axes in figure.axes}) == 1
        for index, (axes, panel) in enumerate(zip(figure.axes, grid, strict=True)):
            {"bars": _bars, "lines": _lines, "scatter": _scatter, "heat": _heat}[axes.kind](panel, axes)
            panel.set_xlabel(axes.xlabel)
            panel.set_ylabel(axes.ylabel if index == 0 or axes.ylabel != figure.axes[0].ylabel else "")
            panel.set_title(axes.title, fontsize=9, loc="left")
            _references(panel, axes)
            named = len(axes.series) > 1 or axes.references
            if axes.kind != "heat" and named and (index == len(grid) - 1 or not shared):
                panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
        drawing.suptitle("\n".join(textwrap.wrap(figure.title, int(12 * drawing.get_figwidth()))), fontsize=10)
    return drawing


def save(figure: Figure, folder: Path, formats: Sequence[str] = ("pdf", "png")) -> list[Path]:
    """Write `folder/<name>.<format>`; equal data give equal bytes."""
    drawing, paths = draw(figure), []
    for name in formats:
        path = folder / f"{figure.name}.{name}"
        path.write_bytes(_bytes(drawing, name))
        paths.append(path)
    return paths


def svg(figure: Figure) -> str:
    """The figure as an SVG element for an HTML page, without XML prologue and fixed size."""
    text = _bytes(draw(figure), "svg").decode()
    return text[text.index("<svg") :]


def _bytes(drawing: Drawing, name: str) -> bytes:
    import matplotlib

    stream = BytesIO()
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[name]
    with matplotlib.rc_context(STYLE):
        drawing.savefig(stream, format=name, dpi=200, metadata=metadata)
    return stream.getvalue()


def _columns(axes: Axes) -> int:
    if axes.kind == "bars":
        return len(axes.series[0].x) * (1 + len(axes.series) // 3) if axes.series else 1
    return len(axes.series[0].x) if axes.kind == "heat" and axes.series else 1


def _errors(series: Series) -> tuple[list[int], Any, Any]:
    """Places with a value, the values, and error-bar lengths (NaN where there is no interval)."""
    places = [index for index, value in enumerate(series.y) if value is not None]
    y = np.array([series.y[index] for index in places], dtype=np.float64)
    bounds = np.full((2, len(places)), np.nan)
    for row, side in enumerate((series.low, series.high)):
        for column, index in enumerate(places):
            if side and side[index] is not None:
                bounds[row, column] = abs(float(side[index] or 0.0) - y[column])
    return places, y, bounds


def _bars(panel: Any, axes: Axes) -> None:
    labels = axes.series[0].x
    width = 0.8 / len(axes.series)
    for number, series in enumerate(axes.series):
        places, y, bounds = _errors(series)
        x = np.array(places) + (number - (len(axes.series) - 1) / 2) * width
        panel.bar(
            x,
            y,
            width * 0.92,
            color=PALETTE[number % 8],
            hatch=HATCHES[number % 8],
            edgecolor="white",
            label=series.name,
        )
        panel.bar(x, y, width * 0.92, fill=False, edgecolor=PALETTE[number % 8], linewidth=0.8)
        if np.isfinite(bounds).any():
            panel.errorbar(x, y, bounds, fmt="none", ecolor="#333333", elinewidth=0.9, capsize=2)
    panel.set_xticks(range(len(labels)), labels)
    panel.grid(axis="y", alpha=0.3)


def _lines(panel: Any, axes: Axes) -> None:
    for number, series in enumerate(axes.series):
        places, y, _ = _errors(series)
        x = [series.x[index] for index in places]
        dense = len(x) > 30
        panel.plot(
            x,
            y,
            color=PALETTE[number % 8],
            linestyle=DASHES[number % 8],
            marker=None if dense else MARKERS[number % 8],
            markersize=5,
            label=series.name,
        )
        if series.low and all(series.low[i] is not None and series.high[i] is not None for i in places):
            low = [float(series.low[i] or 0) for i in places]
            high = [float(series.high[i] or 0) for i in places]
            panel.fill_between(x, low, high, color=PALETTE[number % 8], alpha=0.15, linewidth=0)
    if axes.log_x:
        panel.set_xscale("log", base=2)
        ticks = sorted({float(x) for series in axes.series for x in series.x})
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
    elif all(len(series.x) <= 12 for series in axes.series):
        panel.set_xticks(sorted({float(x) for series in axes.series for x in series.x}))
    panel.grid(alpha=0.3)


def _scatter(panel: Any, axes: Axes) -> None:
    for number, series in enumerate(axes.series):
        _, y, bounds = _errors(series)
        color = PALETTE[(number + number // 8) % 8]
        panel.errorbar(
            [float(x) for x in series.x],
            y,
            bounds if np.isfinite(bounds).any() else None,
            markersize=6,
            fmt=MARKERS[number % 8],
            color=color,
            ecolor=color,
            elinewidth=0.9,
            capsize=2,
            label=series.name,
        )
    if axes.log_x:
        panel.set_xscale("symlog", linthresh=1000, linscale=0.4)
        largest = max((float(x) for series in axes.series for x in series.x), default=0.0)
        powers = [10.0**power for power in range(3, 12) if 10.0**power <= 3 * largest]
        panel.set_xticks([0.0, *powers], ["0", *(f"$10^{{{len(str(int(p))) - 1}}}$" for p in powers)])
        panel.set_xticks([], minor=True)
        panel.set_xlim(-300, max(1000.0, 3 * largest))
    panel.margins(y=0.1)
    panel.grid(alpha=0.3)


def _heat(panel: Any, axes: Axes) -> None:
    matrix = np.array([[np.nan if v is None else v for v in series.y] for series in axes.series], dtype=np.float64)
    image = panel.imshow(matrix, cmap="cividis", aspect="auto")
    middle = (np.nanmin(matrix) + np.nanmax(matrix)) / 2
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            panel.text(
                column,
                row,
                f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value < middle else "black",
            )
    panel.set_xticks(range(len(axes.series[0].x)), [str(x) for x in axes.series[0].x])
    panel.set_yticks(range(len(axes.series)), [series.name for series in axes.series])
    panel.spines[:].set_visible(False)
    panel.figure.colorbar(image, ax=panel, shrink=0.85)


def _references(panel: Any, axes: Axes) -> None:
    for number, reference in enumerate(axes.references):
        if reference.high is not None:
            panel.axhspan(reference.value, reference.high, color="#999999", alpha=0.3, label=reference.label, zorder=0)
        else:
            panel.axhline(
                reference.value,
                color="#444444",
                linestyle=(":", "--")[number % 2],
                linewidth=1,
                label=reference.label,
            )
