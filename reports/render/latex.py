"""A table as LaTeX with booktabs, for pdfTeX: needs the packages array, booktabs and graphicx, and T1 fonts."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from reports.render import format as fmt
from reports.tables import DAGGER, ON_PAPER, Cell, Column, Row, Table

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "±": r"\ensuremath{\pm}", "−": r"\ensuremath{-}", "×": r"\ensuremath{\times}", "·": r"\ensuremath{\cdot}",
    "≤": r"\ensuremath{\leq}", "≥": r"\ensuremath{\geq}", "≈": r"\ensuremath{\approx}", "≠": r"\ensuremath{\neq}",
    "→": r"\ensuremath{\rightarrow}", "←": r"\ensuremath{\leftarrow}", "↑": r"\ensuremath{\uparrow}",
    "↓": r"\ensuremath{\downarrow}", "∞": r"\ensuremath{\infty}", "Σ": r"\ensuremath{\Sigma}",
    "Δ": r"\ensuremath{\Delta}", "α": r"\ensuremath{\alpha}", "β": r"\ensuremath{\beta}",
    "κ": r"\ensuremath{\kappa}", "λ": r"\ensuremath{\lambda}", "μ": r"\ensuremath{\mu}", "σ": r"\ensuremath{\sigma}",
    "τ": r"\ensuremath{\tau}", "ψ": r"\ensuremath{\psi}", "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}",
    "†": r"\textsuperscript{\textdagger}", "‡": r"\textsuperscript{\textdaggerdbl}", "—": r"\textemdash{}",
    "–": r"\textendash{}", "…": r"\textellipsis{}", "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}",
    "‘": r"\textquoteleft{}", "’": r"\textquoteright{}", "•": r"\textbullet{}", "°": r"\textdegree{}",
    "[": "{[}", "]": "{]}", "§": r"\S{}", "\u00a0": "~", "\n": " ", "\t": " ",
}  # fmt: skip

FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
"""Shrinks what follows to the line where it is wider."""

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


def render(table: Table) -> str:
    """A `table` environment to be input into a paper; it shrinks to the line where it is wider."""
    labels = [row.label for _, row in table.rows()]
    columns = _alignment(labels, "l") + "".join(
        _alignment([row.cell(column.key).text or "" for _, row in table.rows()], "l") if column.unit == "text" else "r"
        for column in table.columns
    )
    lines = [
        r"% \usepackage[T1]{fontenc} \usepackage{array,textcomp,booktabs,graphicx}",
        r"\begin{table}[htbp]",
        r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{''.join(c for c in table.name if c.isalnum() or c in '-:')}}}",
        FIT + "{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([escape(table.row_header), *(_head(column) for column in table.columns)]),
    ]
    for panel in table.panels:
        lines.append(r"\midrule")
        if panel.title:
            lines.append(rf"\multicolumn{{{1 + len(table.columns)}}}{{l}}{{\itshape {escape(panel.title)}}} \\")
        previous = None
        for row in panel.rows:
            if previous == "level" and row.kind != "level":
                lines.append(r"\addlinespace")
            lines.append(_row(row, table.columns))
            previous = row.kind
    lines += [r"\bottomrule", r"\end{tabular}}"]
    notes = [rf"\textsuperscript{{{key}}}\,{escape(text)}" for key, text in table.footnotes.items()]
    notes += [escape(note) for note in run_in(table.notes)]
    if notes:
        lines += [r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [rf"{note}\par" for note in notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def run_in(notes: Sequence[str]) -> list[str]:
    """Notes on the paper as one paragraph: floats have little room."""
    remarks = [note.removeprefix(ON_PAPER) for note in notes if note.startswith(ON_PAPER)]
    others = [note for note in notes if not note.startswith(ON_PAPER)]
    return [*others, ON_PAPER + " ".join(remarks)] if remarks else others


def document(*tables: Table) -> str:
    """A document of its own with these tables, one page each, that pdflatex compiles."""
    body = "\\clearpage\n".join(render(table) for table in tables)
    return f"{PREAMBLE}\\begin{{document}}\n{body}\\end{{document}}\n"


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands.

    Characters that T1 fonts lack are replaced by their closest Latin spelling, or by their code point.
    """
    return "".join(SPECIAL.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    if " " <= character <= "~" or "\u00c0" <= character <= "\u017f":
        return character
    spelled = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if spelled:
        return "".join(SPECIAL.get(c, c) for c in spelled)
    if unicodedata.category(character) in ("Cc", "Cf", "Mn"):
        return ""
    return rf"\texttt{{U+{ord(character):04X}}}"


def _alignment(texts: Sequence[str], usual: str) -> str:
    """Column type: texts longer than a line of the table wrap, if they are made of words."""
    longest = max((len(text) for text in texts), default=0)
    word = max((len(word) for text in texts for word in text.split()), default=0)
    width = min(70, 15 + longest // 2)
    return rf">{{\raggedright\arraybackslash}}p{{{width}mm}}" if longest > 40 and word < 25 else usual


def _head(column: Column) -> str:
    lines = [escape(fmt.heading(column)), rf"\scriptsize {escape(column.detail)}" if column.detail else ""]
    return _stack(lines)


def _row(row: Row, columns: tuple[Column, ...]) -> str:
    label = escape(row.label) + (escape(DAGGER) if row.dagger else "")
    return _line([label, *(_cell(row.cell(column.key), column) for column in columns)])


def _cell(cell: Cell, column: Column) -> str:
    text = escape(fmt.value(cell, column))
    if cell.mark:
        text = rf"\{'textbf' if cell.mark == 'best' else 'underline'}{{{text}}}"
    if cell.footnotes:
        text += rf"\textsuperscript{{{','.join(cell.footnotes)}}}"
    interval = fmt.interval(cell, column)
    return _stack([text, rf"\scriptsize {escape(interval)}" if interval else ""])


def _stack(lines: list[str]) -> str:
    shown = [line for line in lines if line]
    if len(shown) < 2:
        return "".join(shown)
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{shown[0]}\\[-2pt]{shown[1]}\end{{tabular}}"


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
