"""The text around a figure's pictures."""

from __future__ import annotations

from reports.plots.figure import Figure
from reports.render.latex import FIT, escape, run_in
from reports.render.markdown import escape as escape_markdown

NOTHING = "Nothing was measured for this figure."


def latex(figure: Figure) -> str:
    """A `figure` environment that includes `<name>.pdf` from the same folder."""
    picture = rf"{FIT}{{\includegraphics{{{figure.name}.pdf}}}}"
    lines = [
        r"% \usepackage[T1]{fontenc} \usepackage{textcomp,graphicx}",
        r"\begin{figure}[htbp]",
        r"\centering",
        NOTHING if figure.empty() else picture,
        rf"\caption{{{escape(figure.title)}}}",
        rf"\label{{fig:{figure.name}}}",
    ]
    if figure.notes:
        lines.append(r"\begin{minipage}{\linewidth}\footnotesize\raggedright")
        lines += [rf"{escape(note)}\par" for note in run_in(figure.notes)]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{figure}"]) + "\n"


def markdown(figure: Figure) -> str:
    """The bitmap with its notes."""
    title = escape_markdown(figure.title)
    parts = [f"**{title}**", NOTHING if figure.empty() else f"![{title}]({figure.name}.png)"]
    if figure.notes:
        parts.append("\n".join(f"- {escape_markdown(note)}" for note in figure.notes))
    return "\n\n".join(parts) + "\n"


def text(figure: Figure) -> str:
    """The points as lines of text."""
    lines = [figure.title]
    for axes in figure.axes:
        lines.append(f"{axes.title or axes.ylabel} by {axes.xlabel}")
        for series in axes.series:
            shown = ", ".join(
                f"{x}: {'—' if y is None else f'{y:.3g}'}" for x, y in zip(series.x, series.y, strict=True)
            )
            lines.append(f"  {series.name}: {shown}")
    if figure.empty():
        lines.append(NOTHING)
    return "\n".join([*lines, *figure.notes]) + "\n"
