"""Text in LaTeX's own signs, and how much room it takes in Computer Modern or Latin Modern."""

from __future__ import annotations

import re
import unicodedata

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

EM = {10: 10.0, 8: 8.5, 7: 8.0}
"""Widths are given in ems of the 10 pt font; small fonts are wider for their size."""

BODY, SMALL, CAPTION = 8, 7, 10
"""\\footnotesize, \\scriptsize and \\normalsize of a 10 pt class, in points."""

BOLD = 1.17
_WIDE = dict.fromkeys("mwMW%—−±×+=<>≤≥≈≠→←@", 0.82) | dict.fromkeys("W—", 1.03)
_NARROW = dict.fromkeys("fijlrst.,:;!'|[]()-I`", 0.36) | dict.fromkeys("ijl.,:;'[]|`", 0.285) | {" ": 0.335}
_ADVANCE = {**dict.fromkeys("ABCDEFGHKLNOPQRTUVXYZ&#", 0.74), **_WIDE, **_NARROW}


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands.

    Characters that T1 fonts lack are replaced by their closest Latin spelling, or by their code point.
    """
    return "".join(SPECIAL.get(character) or _plain(character) for character in text)


def wrapping(text: str, room: float, size: int = BODY) -> str:
    """`escape` for a paragraph `room` points wide: words that are longer may break behind punctuation, or anywhere."""
    breaks = r"\discretionary{}{}{}"
    return " ".join(breaks.join(map(escape, _pieces(word, room, size))) for word in text.split(" "))


def width(text: str, size: int = BODY, *, bold: bool = False) -> float:
    """Points that a line of text takes, rather more than less."""
    ems = 0.0
    for character in text:
        if character in _ADVANCE or " " <= character <= "~" or character in SPECIAL:
            ems += _ADVANCE.get(character, 0.56 if not character.isdigit() else 0.5)
            continue
        set_ = _plain(character)
        ems += 0.525 * (len(set_) - len(r"\texttt{}")) if set_.startswith("\\texttt") else 0.8 * len(set_)
    return ems * EM[size] * (BOLD if bold else 1.0)


def wrap(text: str, room: float, size: int = BODY) -> list[str]:
    """Lines of at most `room` points, broken at spaces; longer words behind punctuation, or anywhere."""
    lines = [""]
    for index, word in enumerate(text.split(" ")):
        for place, piece in enumerate(_pieces(word, room, size)):
            joint = " " if place == 0 and index else ""
            if not lines[-1] or width(lines[-1] + joint + piece, size) <= room:
                lines[-1] += joint + piece if lines[-1] else piece
            else:
                lines.append(piece)
    return lines


def _pieces(word: str, room: float, size: int) -> list[str]:
    """A word as a whole where it fits, else cut behind punctuation or before brackets, and where that is not enough,
    anywhere."""
    if width(word, size) <= room:
        return [word]
    found: list[str] = []
    for part in re.findall(r"\[?[^\[,/=._:;-]*[,/=._:;-]?", word):
        while width(part, size) > room and len(part) > 1:
            fits = next((n for n in range(len(part) - 1, 1, -1) if width(part[:n], size) <= room), 1)
            found.append(part[:fits])
            part = part[fits:]
        found.append(part)
    return [part for part in found if part]


def _plain(character: str) -> str:
    if " " <= character <= "~" or "\u00c0" <= character <= "\u017f":
        return character
    spelled = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if spelled:
        return "".join(SPECIAL.get(c, c) for c in spelled)
    if unicodedata.category(character) in ("Cc", "Cf", "Mn"):
        return ""
    return rf"\texttt{{U+{ord(character):04X}}}"
