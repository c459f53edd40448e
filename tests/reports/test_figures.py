"""A figure in words: as lines of text, as Markdown and as LaTeX, with what was measured and with nothing."""

from __future__ import annotations

from reports.plots.figure import Axes, Figure, Series
from reports.render import figures
from reports.render.options import TableOptions

FIGURE = Figure(
    "speed",
    "Speed & *cost*",
    (
        Axes(
            "line",
            "experts",
            "ms",
            (Series("mixer", x=(2, 4), y=(1.25, None)), Series("uniform", x=(2, 4), y=(1, 2.5))),
        ),
        Axes("line", "experts", "MB", (Series("mixer", x=(2,), y=(10.0,)),), title="Memory"),
    ),
    notes=("Medians of five.",),
)
EMPTY = Figure("speed", "Speed", (Axes("line", "experts", "ms", (Series("mixer", x=(2,), y=(None,)),)),))


def test_points_are_lines_and_what_was_not_measured_a_dash() -> None:
    assert figures.text(FIGURE) == (
        "Speed & *cost*\n"
        "ms by experts\n"
        "  mixer: 2: 1.25, 4: —\n"
        "  uniform: 2: 1, 4: 2.5\n"
        "Memory by experts\n"
        "  mixer: 2: 10\n"
        "Medians of five.\n"
    )
    assert figures.text(EMPTY) == "Speed\nms by experts\n  mixer: 2: —\nNothing was measured for this figure.\n"
    assert not figures.text(FIGURE, TableOptions(bare=True)).startswith("Speed")


def test_a_page_shows_the_bitmap_with_its_notes() -> None:
    page = figures.markdown(FIGURE)
    assert page.startswith("**Speed &amp; \\*cost\\***\n\n![Speed &amp; \\*cost\\*](speed.png)\n\n- Medians of five.")
    assert "Nothing was measured" in figures.markdown(EMPTY)


def test_a_paper_includes_the_drawing() -> None:
    whole, bare = figures.latex(FIGURE), figures.latex(FIGURE, TableOptions(bare=True))
    assert whole.startswith("% \\usepackage")
    assert "\\begin{figure}[htbp]" in whole
    assert "\\caption{Speed \\& *cost*}" in whole
    assert "{speed.pdf}" in bare
    assert "caption" not in bare
    assert "\\begin{figure*}[tbp]" in figures.latex(FIGURE, TableOptions(wide=True))
    assert "Nothing was measured" in figures.latex(EMPTY)
