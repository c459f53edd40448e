"""The text around a figure's pictures."""

from __future__ import annotations

from reports.plots.figure import Figure
from reports.render.latex import FIT, label, minipage, run_in
from reports.render.markdown import escape as escape_markdown
from reports.render.options import DEFAULT, TableOptions, shown
from reports.render.tex import escape, wrapping

NOTHING = "Nothing was measured for this figure."


def latex(figure: Figure, options: TableOptions = DEFAULT) -> str:
    """A `figure` environment (`figure*` if wide) that includes `<name>.pdf` from the same folder."""
    figure = shown(figure, options, "short")
    picture = rf"{FIT}{{\includegraphics{{{figure.name}.pdf}}}}"
    body = NOTHING if figure.empty() else picture
    if options.bare:
        return body + "\n"
    kind = "figure*" if options.wide else "figure"
    lines = [
        r"% \usepackage[T1]{fontenc} \usepackage{textcomp,graphicx}",
        rf"\begin{{{kind}}}[{'tbp' if options.wide else 'htbp'}]",
        r"\centering",
        body,
        rf"\caption{{{escape(figure.title)}}}",
        rf"\label{{{label(figure.name, options, 'fig')}}}",
        *minipage([wrapping(note, 110.0) for note in run_in(figure.notes)]),
    ]
    return "\n".join([*lines, rf"\end{{{kind}}}"]) + "\n"


def markdown(figure: Figure, options: TableOptions = DEFAULT) -> str:
    """The bitmap with its notes."""
    figure = shown(figure, options, "full")
    title = escape_markdown(figure.title)
    parts = [] if options.bare else [f"**{title}**"]
    parts.append(NOTHING if figure.empty() else f"![{title}]({figure.name}.png)")
    if figure.notes:
        parts.append("\n".join(f"- {escape_markdown(note)}" for note in figure.notes))
    return "\n\n".join(parts) + "\n"


def text(figure: Figure, options: TableOptions = DEFAULT) -> str:
    """The points as lines of text."""
    figure = shown(figure, options, "full")
    lines = [] if options.bare else [figure.title]
    for axes in figure.axes:
        lines.append(f"{axes.title or axes.ylabel} by {axes.xlabel}")
        for series in axes.series:
            points = ", ".join(
                f"{x}: {'—' if y is None else f'{y:.3g}'}" for x, y in zip(series.x, series.y, strict=True)
            )
            lines.append(f"  {series.name}: {points}")
    if figure.empty():
        lines.append(NOTHING)
    return "\n".join([*lines, *figure.notes]) + "\n"


def csv(figure: Figure, options: TableOptions = DEFAULT) -> str:
    """The points; nothing of them is an option's to change."""
    return figure.csv()
