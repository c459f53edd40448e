"""The number that a worked answer ends in, compared with the gold one by `math-verify`. The rules: docs/answers.md."""

from __future__ import annotations

import logging
import re
import unicodedata
from decimal import Decimal
from functools import lru_cache

_MARKED = (
    re.compile(r"####\s*"),
    re.compile(r"\\(?:boxed|fbox)\s*\{"),
    re.compile(r"\bfinal answer\b\W*(?:is\b|:|=)?", re.IGNORECASE),
    re.compile(r"\banswer\b\W*(?:is|would be|should be|must be|=|:|-)", re.IGNORECASE),
)
"""What a result stands behind, in the order in which they decide; the last of a kind counts."""

_SPACES = re.compile("(?<=\\d)[\u00a0\u2009\u202f\u2007](?=\\d{3}(?!\\d))")
_GROUPED = r"\d{1,3}(?P<sep>[, '])\d{3}(?:(?P=sep)\d{3})*+(?![\d'])|\d++"
_NUMBER = re.compile(
    r"(?<![\w.,/:])(?P<sign>[-+]?)\s?(?:US)?[$€£¥]?\s?(?P<inner>[-+]?)"
    rf"(?:(?P<whole>{_GROUPED})(?:\.(?P<part>\d++)|(?P<dot>\.(?!\d)))?|\.(?P<bare>\d++))(?![,.:]\d)"
    r"(?:[eE](?P<power>[-+]?\d{1,2})\b)?"
    r"(?:\s*/\s*(?P<under>\d{1,12})(?![\d/.,]\d)|\s(?P<over>\d{1,6})/(?P<below>\d{1,6})(?![\d/]))?"
)
_LATEX = re.compile(r"-?\s*\\[dt]?frac\s*\{\s*-?[\d,.]{1,20}\s*\}\s*\{\s*[\d,.]{1,20}\s*\}")
_LONGEST = 60
_MOST_DIGITS = 4000
"""Of a whole number before a fraction: Python refuses to work with texts of 4,300 digits."""


def final_number(text: str) -> str:
    """The number that an answer ends in, as plain digits, a fraction `a/b`, or LaTeX's `\\frac`; empty without one.

    Behind `####`, in a box or after "the answer is", it is the first number, or what follows an equals sign; two that
    are joined by "or" are none. Without such a mark it is the last number outside brackets.
    """
    text = unicodedata.normalize("NFKC", _SPACES.sub(" ", text)).translate(str.maketrans("−–‒", "---"))
    text = text.replace("\\$", "$").replace("\\,", "").replace("{,}", ",").replace("\\!", "").replace("*", "")
    for mark in _MARKED:
        found = list(mark.finditer(text))
        if found:
            passage = text[found[-1].end() :].strip()
            result = _first(passage.partition("\n")[0] if passage else "")
            if result:
                return "" if result == "?" else result
    outside = re.sub(r"(?<=\d)([^\d(]{0,12})\([^()]*\)", r"\1", text)
    numbers = list(_NUMBER.finditer(outside)) or list(_NUMBER.finditer(text.replace("(", " ").replace(")", " ")))
    fractions = list(_LATEX.finditer(outside))
    if fractions and (not numbers or fractions[-1].end() >= numbers[-1].end()):
        return fractions[-1][0]
    return _written(numbers[-1]) if numbers else ""


def same_number(text: str, gold: str) -> bool:
    """Whether an answer ends in the gold number, whatever the way of writing: `$18.00`, `1 000`, `36/2`.

    Needs no signal, so it works in any thread: what reaches `math-verify` is a bounded number and nothing to work out.
    """
    found, wanted = final_number(text), final_number(gold)
    if not found or not wanted or max(len(found), len(wanted)) > _LONGEST:
        return False
    return _equal(found, wanted)


def _first(passage: str) -> str:
    """The first number of a passage; `?` where it offers two, empty where it has none."""
    passage = re.split(r"\b(?:because|since|which)\b", passage)[0]
    passage = re.sub(r"(?<=\d)([^\d(]{0,12})\([^()]*\)", r"\1", passage)
    if "=" in passage and re.search(r"=\s*[^\d\w]*\d", passage):
        passage = passage[passage.rindex("=") + 1 :] if re.search(r"\d", passage[passage.rindex("=") :]) else passage
    fraction = _LATEX.search(passage)
    number = _NUMBER.search(re.sub(r"[()]", " ", passage))
    if fraction and (number is None or fraction.start() <= number.start()):
        return fraction[0]
    if number is None:
        return ""
    rest = re.sub(r"[()]", " ", passage)[number.end() :]
    another = re.match(r"\s*(?:%|[A-Za-z]+)?\s*(?:or|and/or|to|-)\s+(?=[-+$€£¥]?\d)", rest, re.IGNORECASE)
    following = _NUMBER.search(rest, another.end() - 1) if another else None
    return "?" if following and _written(following) != _written(number) else _written(number)


def _written(match: re.Match[str]) -> str:
    negative = (match["sign"] == "-") != (match["inner"] == "-")
    whole = re.sub(r"[, ']", "", match["whole"] or "0")
    part = match["part"] or match["bare"]
    number = f"{whole}.{part}" if part else whole
    if match["power"]:
        number = format(Decimal(f"{number}e{match['power']}"), "f")
    if match["under"]:
        number = f"{number}/{match['under']}"
    elif match["over"] and len(whole) < _MOST_DIGITS:
        number = f"{int(whole) * int(match['below']) + int(match['over'])}/{match['below']}"
    return f"-{number}" if negative else number


@lru_cache(maxsize=4096)
def _equal(found: str, wanted: str) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    # It warns that its limits, which are signals and work in the main thread only, are off.
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
    kinds = [LatexExtractionConfig(), ExprExtractionConfig()]
    a, b = (
        parse(f"${one}$" if "\\" in one else one, extraction_config=kinds, parsing_timeout=None)
        for one in (wanted, found)
    )
    return bool(a and b and verify(a, b, timeout_seconds=None))
