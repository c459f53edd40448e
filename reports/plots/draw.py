"""Drawing with matplotlib: no window, vector and bitmap, readable in print and by the colour-blind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.plots.figure import Axes, Figure, Series
from reports.tables import NOT_RUN

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's colours, the yellow replaced by a brown that prints."""
MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "+++", "ooo")
CHARACTERS = 12
"""Letters of an inch of the names under bars, two between them counted, beyond which they are turned."""
MANY = 8
"""Groups of bars beyond which a panel takes half of a figure's width."""
LUMINANCE = (0.2126, 0.7152, 0.0722)
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
    """A matplotlib figure: coordinate systems in rows of three or two, one legend under them, one style per series.

    The figure's title is not drawn: it is the caption, wherever the picture stands.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    styles = _styles(figure)
    with matplotlib.rc_context(STYLE):
        # In a paper's column, many groups of bars are too small three across, and a curve is beside its difference.
        most = 2 if any(_columns(axes) > MANY for axes in figure.axes) else 3
        curves = len(figure.axes) == 2 and all(axes.kind == "lines" for axes in figure.axes)
        across = 1 if curves else min(most, max(1, len(figure.axes)))
        rows = max(1, -(-len(figure.axes) // across))
        wanted = [across * (0.5 * _columns(axes) + 1.0) for axes in figure.axes]
        width = min(11 if across != 2 else 7.2, max(4.6, 3.6 * across, *wanted))
        lines = _legend_lines(figure, styles, width)
        height = max(2.8, *(0.7 + 0.24 * _lines_of_rows(axes) for axes in figure.axes)) if figure.axes else 2.8
        drawing = Drawing(figsize=(width, 0.4 + height * rows + 0.17 * lines), layout="constrained")
        FigureCanvasAgg(drawing)
        grid = drawing.subplots(rows, across, squeeze=False).flatten()
        for index, (axes, panel) in enumerate(zip(figure.axes, grid, strict=False)):
            KINDS[axes.kind](panel, axes, styles)
            if axes.kind == "rows":
                panel.set_xlabel(axes.ylabel)
                if index % across:
                    panel.tick_params(axis="y", labelleft=False)
            else:
                panel.set_xlabel(axes.xlabel)
                repeated = index % across and axes.ylabel == figure.axes[index - 1].ylabel
                panel.set_ylabel("" if repeated else axes.ylabel)
            panel.set_title(axes.title, fontsize=9, loc="left")
            _references(panel, axes)
        for panel in grid[len(figure.axes) :]:
            panel.set_visible(False)
        _legend(drawing, grid, width)
    return drawing


def _styles(figure: Figure) -> dict[str, int]:
    """Number of the style of each series, by name: the same in all coordinate systems."""
    names = dict.fromkeys(series.name for axes in figure.axes for series in axes.series)
    return {name: number for number, name in enumerate(names)}


def _legend_columns(names: Sequence[str], width: float) -> int:
    """Names that fit side by side in so many inches."""
    return max(1, int(16 * width / (max(map(len, names)) + 8)))


def _legend_lines(figure: Figure, styles: Mapping[str, int], width: float) -> int:
    if all(axes.kind == "heat" for axes in figure.axes):
        return 0
    names = [*styles, *dict.fromkeys(reference.label for axes in figure.axes for reference in axes.references)]
    return -(-len(names) // _legend_columns(names, width)) if names else 0


def _legend(drawing: Drawing, grid: Any, width: float) -> None:
    """One legend for all coordinate systems; heat maps have none."""
    handles: dict[str, Any] = {}
    for panel in grid:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        columns = _legend_columns(list(handles), width)
        drawing.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=min(columns, len(handles)),
            fontsize=8,
        )


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


def _color(number: int) -> str:
    """Colours shift by one after each round, so that no two of 64 styles agree in colour and marker."""
    return PALETTE[(number + number // 8) % 8]


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


def _bars(panel: Any, axes: Axes, styles: Mapping[str, int]) -> None:
    labels = axes.series[0].x
    width = 0.8 / len(axes.series)
    for place, series in enumerate(axes.series):
        number = styles[series.name]
        places, y, bounds = _errors(series)
        x = np.array(places) + (place - (len(axes.series) - 1) / 2) * width
        panel.bar(
            x,
            y,
            width * 0.92,
            color=_color(number),
            hatch=HATCHES[number % 8],
            edgecolor="white",
            linewidth=0,
            label=series.name,
        )
        if np.isfinite(bounds).any():
            panel.errorbar(x, y, bounds, fmt="none", ecolor="#333333", elinewidth=0.9, capsize=2)
    panel.set_xticks(range(len(labels)), labels)
    inches = panel.figure.get_figwidth() / panel.get_gridspec().ncols
    if sum(len(str(label)) + 2 for label in labels) > CHARACTERS * inches:
        panel.tick_params(axis="x", labelrotation=90, labelsize="small")
    panel.grid(axis="y", alpha=0.3)


def _lines_of_rows(axes: Axes) -> int:
    return len(axes.series[0].x) if axes.kind == "rows" and axes.series else 0


def _rows(panel: Any, axes: Axes, styles: Mapping[str, int]) -> None:
    """Points with intervals, one line for each name, the first on top; several series share a line, slightly apart."""
    labels = axes.series[0].x
    for place, series in enumerate(axes.series):
        number = styles[series.name]
        places, x, bounds = _errors(series)
        panel.errorbar(
            x,
            np.array(places) + (place - (len(axes.series) - 1) / 2) * 0.3,
            xerr=bounds if np.isfinite(bounds).any() else None,
            fmt=MARKERS[number % 8],
            markersize=5,
            color=_color(number),
            elinewidth=1.1,
            capsize=2,
            label=series.name,
        )
    panel.set_yticks(range(len(labels)), labels)
    panel.tick_params(axis="y", labelsize="small")
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.margins(x=0.1)
    panel.grid(alpha=0.3)


def _lines(panel: Any, axes: Axes, styles: Mapping[str, int]) -> None:
    for series in axes.series:
        number = styles[series.name]
        places, y, _ = _errors(series)
        x = [series.x[index] for index in places]
        dense = len(x) > 30
        panel.plot(
            x,
            y,
            color=_color(number),
            linestyle=DASHES[number % 8],
            marker=None if dense else MARKERS[number % 8],
            markersize=5,
            label=series.name,
        )
        if series.low and all(series.low[i] is not None and series.high[i] is not None for i in places):
            low = [float(series.low[i] or 0) for i in places]
            high = [float(series.high[i] or 0) for i in places]
            panel.fill_between(x, low, high, color=_color(number), alpha=0.15, linewidth=0)
    if axes.log_x:
        panel.set_xscale("log", base=2)
        ticks = sorted({float(x) for series in axes.series for x in series.x})
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
    elif all(len(series.x) <= 12 for series in axes.series):
        panel.set_xticks(sorted({float(x) for series in axes.series for x in series.x}))
    panel.grid(alpha=0.3)


def _scatter(panel: Any, axes: Axes, styles: Mapping[str, int]) -> None:
    for series in axes.series:
        number = styles[series.name]
        _, y, bounds = _errors(series)
        color = _color(number)
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


def _heat(panel: Any, axes: Axes, styles: Mapping[str, int]) -> None:
    matrix = np.array([[np.nan if v is None else v for v in series.y] for series in axes.series], dtype=np.float64)
    image = panel.imshow(matrix, aspect="auto", **_colours(matrix, axes.center))
    for (row, column), value in np.ndenumerate(matrix):
        if np.isnan(value) and axes.center is not None:
            # White is close to the neutral colour.
            panel.text(column, row, NOT_RUN, ha="center", va="center", fontsize=8, color="#666666")
        if not np.isnan(value):
            panel.text(
                column,
                row,
                _annotation(value, axes.center),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if np.dot(image.cmap(image.norm(value))[:3], LUMINANCE) < 0.5 else "black",
            )
    panel.set_xticks(range(len(axes.series[0].x)), [str(x) for x in axes.series[0].x])
    panel.set_yticks(range(len(axes.series)), [series.name for series in axes.series])
    panel.spines[:].set_visible(False)
    panel.figure.colorbar(image, ax=panel, label=axes.zlabel)


def _colours(matrix: np.ndarray, center: float | None) -> dict[str, Any]:
    """Colour map and limits of a heat map, readable by the colour-blind: ordered, or two-sided around a centre."""
    if center is None:
        return {"cmap": "cividis"}
    known = matrix[~np.isnan(matrix)]
    reach = float(np.abs(known - center).max()) if known.size else 0.0
    return {"cmap": "PuOr", "vmin": center - (reach or 1.0), "vmax": center + (reach or 1.0)}


def _annotation(value: float, center: float | None) -> str:
    if center is not None:
        shown = f"{value:+.1f}".replace("-", "−")
        return "0.0" if shown in ("+0.0", "−0.0") else shown
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _references(panel: Any, axes: Axes) -> None:
    sideways = axes.kind == "rows"
    span, line = (panel.axvspan, panel.axvline) if sideways else (panel.axhspan, panel.axhline)
    for number, reference in enumerate(axes.references):
        if reference.high is not None:
            span(reference.value, reference.high, color="#999999", alpha=0.3, label=reference.label, zorder=0)
        else:
            line(
                reference.value,
                color="#444444",
                linestyle=(":", "--")[number % 2],
                linewidth=1,
                label=reference.label,
            )


KINDS = {"bars": _bars, "rows": _rows, "lines": _lines, "scatter": _scatter, "heat": _heat}
"""What draws each kind of coordinate system."""
