"""Which of several names a text settles on, once every mention of a name in it is marked.

A marked text holds one private character for each mention: `word(i)` for the words of name i, `label(i)` for its
letter, `OTHER` for something that is none of the names (a letter without an option, a label beside another's words).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_WORD, _LABEL = 0xE000, 0xE100
OTHER = chr(0xE1FE)
BOX = chr(0xE200)
"""Marks the beginning of a result that is boxed."""
MENTION = "[\ue000-\ue1ff]"
LABEL = "[\ue100-\ue1ff]"

_THINKING = re.compile(r"\A\s*<think(?:ing)?>(?:.*?</think(?:ing)?>|.*\Z)", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_LATEX = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:bf|rm|it|sf)|mbox|emph)\s*\{([^{}]*)\}")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-") | {"’": "'", "‘": "'", "“": '"', "”": '"', "→": ":"})

_IDIOMS = re.compile(
    r"\b(?:there(?:'s| is| can be) )?(?:no (?:doubt|question)|without (?:a |any )?doubt|not only|not surprisingly|"
    r"nothing but|none other than|can(?:'t|not) go wrong with)\b(?: that| about it)?",
    re.IGNORECASE,
)
_AND = r"(?:\s*(?:,|/|&|\+|\band\b|\bor\b|\bnor\b)\s*)+(?:an?\s+|the\s+|options?\s+|choices?\s+|either\s+|both\s+)*"
_GROUP = rf"[(\"'\[]*{MENTION}[)\"'\].]*(?:{_AND}[(\"'\[]*{MENTION}[)\"'\]]*)*"
_FILLER = r"(?:(?!(?:but|instead|however|because|since|so)\b)[^\W\d_]+(?:'[a-z]+)?\s+){0,5}"
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|cannot|never|neither|nor|no|than|over|except(?: for)?|excluding|"
    r"excludes?|unlike|avoid(?:ing)?|instead of|without|against|all but|"
    rf"rul(?:e|es|ed|ing) out|eliminat(?:e|es|ed|ing))\b|n't\b)\s+{_FILLER}({_GROUP})",
    re.IGNORECASE,
)
_WRONG = (
    r"not\b|wrong|incorrect|false|less|unlikely|un(?:true|helpful|necessary)|inappropriate|contra-?indicated|"
    r"ruled out|excluded|eliminated|out\b|a distractor|never"
)
_DENIED_AFTER = re.compile(
    rf"({_GROUP})\s*,?\s*(?:(?:is|are|was|were|seems?|appears?|looks?|can be|has been|have been|would(?: be)?|"
    r"might be)\s+"
    rf"(?:\w+ly\s+|also\s+|both\s+|all\s+|even\s+|much\s+)?(?:{_WRONG})|"
    r"(?:is|are|was|were|does|do|did|would|could|can|should)n't\b|"
    r"(?:do|does|did|can|could|would|should|will)\s*not\b)",
    re.IGNORECASE,
)

_BE = (
    r"(?:is|are|was|be|would be|should be|will be|must be|has to be|could be|might be|may be|"
    r"seems to be|appears to be)"
)
_LINK = rf"(?:\s*(?:\b{_BE}\b|[:=>\"-])+)"
_FINAL = re.compile(
    rf"{BOX}|####+|<answer>|\bfinal\s+(?:answer|choice|decision|verdict|conclusion)\b[\"')\]]*{_LINK}*", re.IGNORECASE
)
_LEADS = (
    rf"\banswers?\b(?:\s+(?:to|for|here|choice|option|letter)\b[^.:\n]{{0,60}}?)?[\"')\]]*"
    rf"(?:{_LINK}+|(?=[ \t]*\n)|(?=\s*{LABEL}))",
    rf"\b(?:ans|solution|response|verdict|conclusion|decision)\b[.\"')\]]*{_LINK}+",
    rf"\b(?:correct|right|best|proper|preferred|appropriate|likely|recommended|next)\b"
    rf"(?:[ \t]+[^\W\d_]+){{0,4}}?{_LINK}+",
    r"\b(?:i|we)(?:'d|'ll|'m|'ve)?\b(?:\s+[a-z]+){0,4}?\s+(?:choose|chose|pick|select|go(?:ing)? (?:with|for)|opt for|"
    r"say|answer|vote for|recommend|suggest|prefer|favou?r|settle on|give|prescribe|start|conclude|"
    r"think|believe|guess)\b"
    rf"(?:\s+(?:that\b|it\b|it's\b|the\b|answer\b|{_BE}\b|with\b|for\b|:))*",
    r"(?:\A|(?<=[.!?:\n]))\s*(?:choose|pick|select|mark|go with|give|prescribe|start)\b",
    rf"\b(?:it|this|that)(?:'s|\s+{_BE})(?=\s+[\"'(\[]*{LABEL})",
    r"\b(?:leaves|leaving)\b(?:\s+us)?(?:\s+with)?(?:\s+only)?",
    rf"\b(?:therefore|thus|hence|so|consequently|but|in conclusion|finally|overall)\b[,:]?(?=\s+[\"'(\[]*{LABEL})",
)
_LEAD = re.compile("|".join(f"(?:{lead})" for lead in _LEADS), re.IGNORECASE)
_SUBJECT = re.compile(
    rf"({_GROUP})\s*,?\s*(?:(?:{_BE}|seems|appears|looks|remains|fits|it\s+is)\b)\s*(?:\w+ly\s+)?"
    r"(?:the\s+|my\s+|an?\s+)?(?:\w+ly\s+|most\s+|only\s+|single\s+|more\s+)*"
    r"(?:correct|right|best|true|answer|likely|appropriate|preferred|indicated|choice|option|recommended|"
    r"treatment of choice)"
    rf"|({_GROUP})\s+(?:it\s+is|fits|wins)\b",
    re.IGNORECASE,
)
_SKIP = re.compile(
    r"(?:[\s\"'(\[{<>:=*-]+|\b(?:the|an?|to|that|it|is|give|use|start|be|option|choice|letter|number|answer|either|both|"
    r"probably|likely|most|definitely|clearly|certainly|indeed|therefore|thus|obviously|only|just|simply|still|with|"
    r"correct|right|best|one|not|but|rather|instead)\b)*",
    re.IGNORECASE,
)
_END = re.compile(
    r"[.!?;](?=\s|\Z)|\n|,\s*(?:which|who|that|not|as|while)\b|"
    r"\b(?:because|since|which|while|whereas|although|though|but|given|due to|as it|so that)\b",
    re.IGNORECASE,
)
_REVISED = re.compile(
    r"\b(?:wait|no|actually|correct(?:ion|ing)|however|but|on (?:second thought|reflection)|"
    r"reconsider\w*|sorry|rather|instead|"
    r"let me|therefore|thus|hence|so|finally|final|in conclusion|in the end|ultimately|overall|hmm)\b",
    re.IGNORECASE,
)


def word(index: int) -> str:
    """The mark of a mention of a name by its words."""
    return chr(_WORD + index)


def label(index: int) -> str:
    """The mark of a mention of a name by its letter."""
    return chr(_LABEL + index)


def plain(text: str) -> str:
    """A text without leading thinking, markup and typographic variants; boxed results begin with `BOX`."""
    text = unicodedata.normalize("NFKC", _THINKING.sub("", text)).translate(_DASHES)
    text = "".join(" " if 0xE000 <= ord(char) <= 0xF8FF else char for char in text)
    while (opened := _LATEX.sub(r"\1", text)) != text:
        text = opened
    text = _BOXED.sub(rf"{BOX}\1\n", text)
    text = re.sub(r"\\[\[\]()]|[*`$]|(?<!\w)_+|_+(?!\w)", "", text)
    return _IDIOMS.sub(" ", text).strip()


@dataclass(frozen=True)
class _Statement:
    start: int
    end: int
    named: frozenset[int]
    asked: bool


def settled(marked: str, count: int) -> int | None:
    """The name that a marked text settles on.

    Args:
        marked: a text out of `plain` with its mentions marked.
        count: number of names.

    Returns:
        The index of the one name; None where the text names none or leaves several.
    """
    text = _DENIED_AFTER.sub(_erased, marked)
    text = _DENIED_BEFORE.sub(_erased, text)
    for stated in (_statements(text, _FINAL), _statements(text, _LEAD) + _subjects(text)):
        named = sorted((one for one in stated if one.named), key=lambda one: (one.end, one.start))
        named = [one for one in named if not one.asked] or named
        if named:
            return _one(_last(text, named), count)
    if (opening := _opening(text)) is not None:
        return _one(opening, count)
    return _one(_mentions(text), count)


def _erased(match: re.Match[str]) -> str:
    inner = re.sub(MENTION, "-", match[1])
    return match[0].replace(match[1], inner)


def _one(named: frozenset[int], count: int) -> int | None:
    if len(named) != 1:
        return None
    (index,) = named
    return index if index < count else None


def _indices(marks: str) -> frozenset[int]:
    return frozenset((ord(mark) - _WORD) % 0x100 for mark in re.findall(MENTION, marks))


def _statements(text: str, lead: re.Pattern[str]) -> list[_Statement]:
    found = []
    for match in lead.finditer(text):
        start = _skipped(text, match.end())
        if re.match(MENTION, text[start : start + 1]):
            group = re.compile(_GROUP).match(text, start)
            assert group is not None
            named, end = _indices(group[0]), group.end()
            if text[start] < chr(_LABEL) and (beside := re.compile(rf"\s*[(\[]({LABEL})").match(text, end)):
                named, end = named | _indices(beside[1]), beside.end()
        else:
            stop = _END.search(text, start)
            end = stop.start() if stop else len(text)
            named = _indices(text[start:end])
        found.append(_Statement(match.start(), end, named, _asked(text, end)))
    return found


def _subjects(text: str) -> list[_Statement]:
    found = []
    for match in _SUBJECT.finditer(text):
        named = _indices(match[1] or match[2])
        found.append(_Statement(match.start(), match.end(), named, _asked(text, match.end())))
    return found


def _skipped(text: str, position: int) -> int:
    match = _SKIP.match(text, position)
    return match.end() if match else position


def _asked(text: str, position: int) -> bool:
    stop = re.compile(r"[.!?](?=\s|\Z|[\"')])|\n").search(text, max(0, position - 1))
    return stop is not None and stop[0] == "?"


def _last(text: str, named: Sequence[_Statement]) -> frozenset[int]:
    """What the statements agree on; where they differ, the last one if it revises all before it."""
    every = frozenset().union(*(one.named for one in named))
    last = named[-1]
    if len(every) == 1 or len(last.named) != 1:
        return every
    before = max((one.end for one in named if one.named != last.named), default=0)
    between = text[before : last.end]
    return last.named if _REVISED.search(between) else every


def _opening(text: str) -> frozenset[int] | None:
    """The label that a text opens with, or None."""
    match = re.match(rf"[\s\"'(\[{{#-]*(?:(?:option|choice|answer)\s*:?\s*)?[\"'(\[{{]*{LABEL}", text, re.IGNORECASE)
    if match is None:
        return None
    group = re.compile(_GROUP).match(text, match.end() - 1)
    assert group is not None
    listed = re.findall(rf"(?:\A|\n)[\s(\[-]*({LABEL})", text)
    return _indices(group[0]) | (_indices("".join(listed)) if len(listed) > 1 else frozenset())


def _mentions(text: str) -> frozenset[int]:
    """What is named anywhere: words of options, bracketed labels, `option C`, and labels that are a sentence."""
    words = re.findall("[\ue000-\ue0ff]", text)
    labels = re.findall(rf"[(\[]({LABEL})[)\]]|\b(?:options?|choices?|letter)\s+({LABEL})", text, re.IGNORECASE)
    alone = re.findall(rf"(?:\A|[.!?:;\n-])\s*({LABEL})[.)\s]*(?=\Z|\n)", text)
    return _indices("".join([*words, *("".join(pair) for pair in labels), *alone]))
