"""A table as LaTeX with booktabs, for pdfTeX: needs the packages array, booktabs and graphicx, and T1 fonts.

A table fits its place: a column of a two-column paper, or with `wide` a text of 5.5 inches, at \\footnotesize and never
below \\scriptsize. See `reports.render.fit` for what gives way. Tables taller than a page go on in further floats.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.render.fit import COLUMN, FLEXIBLE, INDENT, TEXT, Block, Fit, Tabular
from reports.render.options import DEFAULT, TableOptions, shown
from reports.render.tex import escape, wrapping
from reports.tables import DAGGER, ON_PAPER, Cell, Column, Row, Table

__all__ = ["FIT", "PREAMBLE", "document", "escape", "notes", "render"]

FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
"""Shrinks what follows to the line where it is wider, as with fonts wider than those that room was measured for."""

PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{lmodern}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage{array}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage[paperwidth=320mm,paperheight=400mm,margin=15mm]{geometry}
\pagestyle{empty}
"""


def render(table: Table, options: TableOptions = DEFAULT) -> str:
    """Floats to be input into a paper: one, or several where one page has no room for all.

    Short notes by default; `options.bare` gives `tabular`s alone, set for \\footnotesize.
    """
    whole, table = table, shown(table, options, "short")
    fit = Fit(table, TEXT if options.wide else COLUMN)
    if options.bare:
        (alone,) = fit.floats((), float("inf"))
        return "\n\\par\\medskip\n".join(_tabular(fit, one) for one in alone.tabulars) + "\n"
    under = [(rf"\textsuperscript{{{key}}}\,", text) for key, text in table.footnotes.items()]
    left_out = [] if options.notes in ("none", "file") else _left_out(fit)
    under += [("", note) for note in (*run_in(table.notes), *left_out)]
    signs = {text: sign for sign, text in reversed(under)}
    floats = fit.floats(list(dict.fromkeys(text for _, text in under)))
    kind = "table*" if options.wide else "table"
    name = label(table.name, options)
    lines = [
        r"% \usepackage[T1]{fontenc} \usepackage{array,textcomp,booktabs,graphicx}",
        *_remark(whole, table, options),
    ]
    for index, one in enumerate(floats):
        lines += [rf"\begin{{{kind}}}[{'tbp' if options.wide else 'htbp'}]", r"\centering"]
        if index:
            lines.append(rf"{{\small\tablename~\ref{{{name}}}, continued.\par}}\medskip")
        else:
            lines.append(r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}")
            lines += [rf"\caption{{{wrapping(table.title, fit.room)}}}", rf"\label{{{name}}}"]
        lines.append(r"{\footnotesize")
        lines.append("\n\\par\\medskip\n".join(f"{FIT}{{%\n{_tabular(fit, tabular)}}}" for tabular in one.tabulars))
        lines.append(r"\par}")
        lines += minipage([signs[note] + wrapping(note, fit.room / 2) for note in one.notes])
        lines.append(rf"\end{{{kind}}}")
    return "\n".join(lines) + "\n"


def notes(table: Table, options: TableOptions = DEFAULT) -> str:
    """All footnotes and notes of a table, and what found no room in it, as paragraphs for an appendix."""
    keyed = [rf"\textsuperscript{{{key}}}\,{wrapping(text, COLUMN / 2)}" for key, text in table.footnotes.items()]
    under = [*run_in(table.notes), *_left_out(Fit(table, TEXT if options.wide else COLUMN))]
    lines = [*keyed, *(wrapping(note, COLUMN / 2) for note in under)]
    head = rf"\paragraph{{Notes to \tablename~\ref{{{label(table.name, options)}}}.}}"
    return "\n".join([head, *(f"{line}\n" for line in lines)])


def label(name: str, options: TableOptions = DEFAULT, kind: str = "tab") -> str:
    """The label of a float."""
    return options.label or f"{kind}:{''.join(c for c in name if c.isalnum() or c in '-:')}"


def minipage(paragraphs: Sequence[str]) -> list[str]:
    """Lines of a float that set small paragraphs as wide as the float."""
    if not paragraphs:
        return []
    body = [rf"{paragraph}\par" for paragraph in paragraphs]
    return [r"\medskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright", *body, r"\end{minipage}"]


def run_in(notes: Sequence[str]) -> list[str]:
    """Notes on the paper as one paragraph."""
    remarks = [note.removeprefix(ON_PAPER) for note in notes if note.startswith(ON_PAPER)]
    others = [note for note in notes if not note.startswith(ON_PAPER)]
    return [*others, ON_PAPER + " ".join(remarks)] if remarks else others


def document(*tables: Table) -> str:
    """A document of its own with these tables, one page each, that pdflatex compiles."""
    body = "\\clearpage\n".join(render(table) for table in tables)
    return f"{PREAMBLE}\\begin{{document}}\n{body}\\end{{document}}\n"


def _left_out(fit: Fit) -> list[str]:
    """A sentence on intervals that found no room."""
    listed = ", ".join(f"{column} {points:.1f}" for column, points in fit.reach().items())
    if not listed:
        return []
    return [f"Farthest that a 95 % interval reaches from its value: {listed}."]


def _remark(whole: Table, table: Table, options: TableOptions) -> list[str]:
    missing = len(whole.notes) - len(table.notes)
    if options.notes is not None or missing <= 0:
        return []
    return [f"% Shortened: {len(whole.notes)} notes stand in the Markdown, and in a file with --notes file."]


def _tabular(fit: Fit, tabular: Tabular) -> str:
    block = tabular.block
    gap = rf"@{{\hspace{{{fit.style.sep:g}pt}}}}"
    columns = "@{}l" + "".join(gap + _kind(column, block) for column in block.columns) + "@{}"
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([escape(fit.table.row_header), *(_head(fit, column, block) for column in block.columns)]),
    ]
    for group in tabular.groups:
        lines.append(r"\midrule")
        across = rf"\multicolumn{{{1 + len(block.columns)}}}{{@{{}}l@{{}}}}"
        lines += [rf"{across}{{\itshape {escape(line)}}} \\" for line in fit.title(group.title, block)]
        previous = None
        for row in group.rows:
            if previous == "level" and row.kind != "level":
                lines.append(r"\addlinespace")
            lines.append(_row(fit, row, block))
            previous = row.kind
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _kind(column: Column, block: Block) -> str:
    if column.key in block.paragraphs:
        return rf">{{\raggedright\arraybackslash}}p{{{block.paragraphs[column.key]:.1f}pt}}"
    return "l" if column.unit == "text" else "r"


def _head(fit: Fit, column: Column, block: Block) -> str:
    label, detail = fit.head(column, block.paragraphs.get(column.key, FLEXIBLE))
    lines = [*map(escape, label), *(rf"\scriptsize {escape(line)}" for line in detail)]
    if fit.turned(column):
        return rf"\rotatebox{{90}}{{{_stack(lines, 'l', 'b', -2.0)}}}"
    left = column.unit == "text" or column.key in block.paragraphs
    return _stack(lines, "l" if left else "r", "b", -2.0)


def _row(fit: Fit, row: Row, block: Block) -> str:
    first, *rest = map(escape, fit.label(row, block))
    names = [first, *(rf"\hspace*{{{INDENT:g}pt}}{line}" for line in rest)]
    names[-1] += escape(DAGGER) if row.dagger else ""
    return _line([_stack(names, "l"), *(_cell(fit, row.cell(column.key), column, block) for column in block.columns)])


def _cell(fit: Fit, cell: Cell, column: Column, block: Block) -> str:
    main, below = fit.lines(cell, column)
    text = wrapping(main, block.paragraphs[column.key]) if column.key in block.paragraphs else escape(main)
    if cell.mark:
        text = rf"\{'textbf' if cell.mark == 'best' else 'underline'}{{{text}}}"
    if cell.footnotes:
        text += rf"\textsuperscript{{{','.join(cell.footnotes)}}}"
    return _stack([text, rf"\scriptsize {escape(below)}" if below else ""])


def _stack(lines: list[str], side: str = "r", top: str = "t", gap: float = -0.4) -> str:
    kept = [line for line in lines if line]
    if len(kept) < 2:
        return "".join(kept)
    body = rf"\\[{gap}pt]".join(kept)
    return rf"\begin{{tabular}}[{top}]{{@{{}}{side}@{{}}}}{body}\end{{tabular}}"


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
