"""Scores that a judge states in words: `Score: 85`, `85/100`, `<score>85</score>`; what it quotes or denies is none."""

from __future__ import annotations

import re

from tasks.judge.scales import NUMBER, number

_MARKS = r"[\s\"'*_`]*"
_NAMED = re.compile(
    rf"(?P<before>(?:\b[a-z]+\s+)?)\b(?P<name>score)\b{_MARKS}(?:[(\[][^)\]\n]{{0,40}}[)\]])?{_MARKS}"
    rf"(?:\b(?:is|of|stays at|remains|would be|out\s+of\s+100\s*(?:is|[:=]))\b|[:=>]|-(?=\s)|–|—){_MARKS}[(\[]?"
    rf"(?P<score>{NUMBER})(?![\d.,]*\d)(?=(?P<after>[^\n]{{0,60}}))",
    re.IGNORECASE,
)
_TAGGED = re.compile(
    rf"<(?P<tag>(?:final_?)?score)>\s*(?P<score>{NUMBER})(?P<after>[^<\n]{{0,20}})</(?P=tag)>", re.IGNORECASE
)
_FRACTION = re.compile(rf"(?<![\w./-])(?P<score>{NUMBER})\s*(?:/\s*|\bout\s+of\s+)100\b(?!\s*[./]\s*\d)", re.IGNORECASE)
_AFTER_NUMBER = re.compile(
    rf"[\s\"'*_`]*(?:[(\[]?\s*(?:/|\bout\s+of\b|\bof\b)\s*(?P<of>{NUMBER})|(?P<stars>stars?\b|[★⭐])|"
    rf"(?P<arrow>->|→|=>)|(?P<or>\bor\b|/|&|\band\b)\s*{NUMBER}|"
    rf"(?P<to>\bto\b|–|-)(?P<gap>\s*)(?P<second>{NUMBER})(?P<rest>\s*\S*)|"
    rf"(?P<scale>[(\[][^)\]]*?\b(?:scale|of|max)\b[^)\]]*?(?P<top>\d+(?:\.\d+)?)\s*[)\]])|\s(?P<next>{NUMBER})(?=\s|\Z))",
    re.IGNORECASE,
)
_NOT_A_VERDICT = re.compile(
    r"\b(?:max(?:imum)?|min(?:imum)?|possible|perfect|full|highest|lowest|passing|threshold|top|best|candidate's|claimed|"
    r"requested|demanded|draft|initial|previous|old|example|reference|sub)\s*\Z",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:cannot|can't|not|never|no|nor|if|unless|without|rather than|instead of|than|whether|why|how|deny|denies|"
    r"denied|refuse[sd]?|example|e\.g\.)\b|n't\b|"
    r"\b(?:candidate|answer|response|student|text|it|submission)\s+(?:\w+\s+){0,3}?(?:wrote|writes|says|said|claims?|claimed|"
    r"states|demands?|demanded|asks?|asked|instructs?|contains?|reads|includes?|requests?)\b",
    re.IGNORECASE,
)
_MEANS = re.compile(
    r"[\s\"'*_`]*(?:would|means|meant|requires?|needs?|is (?:too|for|not|only|reserved|given|impossible)|isn't|if|"
    r"cannot|can't|could|were|will be given|goes to)\b",
    re.IGNORECASE,
)
_FINAL = re.compile(r"\b(?:final|overall|total)\s*\Z", re.IGNORECASE)


def stated_scores(text: str, *, cut: bool = False) -> list[float | None] | None:
    """The scores that a text states, one for each statement.

    Args:
        text: a reply, its thinking and objects taken out.
        cut: it ended at its token limit.

    Returns:
        A score for every statement, None for one that is out of range or of another scale; the list is empty without
        any. None when a statement is a range or lacks digits, so that nothing can be said.
    """
    text = _unquoted(text)
    found: list[tuple[int, float | None, bool]] = []
    for match in _NAMED.finditer(text):
        if _NOT_A_VERDICT.search(match["before"]) or _denied(text, match.start("name"), match["after"]):
            continue
        at_end = match.end("score") == len(text.rstrip())
        if at_end and (cut or '"' in match[0]):
            return None
        value = _valued(match["score"], match["after"])
        if value == "range":
            return None
        assert not isinstance(value, str)
        found.append((match.start("score"), value, bool(_FINAL.search(match["before"]))))
    for pattern in (_TAGGED, _FRACTION):
        for match in pattern.finditer(text):
            if any(match.start("score") == place for place, _, _ in found):
                continue
            denied = pattern is _FRACTION and _denied(text, match.start("score"), text[match.end() : match.end() + 60])
            if not denied:
                found.append((match.start("score"), number(match["score"]), False))
    final = [one for one in found if one[2]]
    return [value for _, value, _ in (final or found)]


def _denied(text: str, start: int, after: str) -> bool:
    clause = re.split(r"[.!?;:\n](?:\s|\Z)|\bbut\b|\bso\b|\btherefore\b", text[max(0, start - 160) : start])[-1]
    return bool(_DENIED.search(clause) or _MEANS.match(after))


def _valued(spelled: str, after: str) -> float | str | None:
    """The value of a number in the light of what follows it: `range` where that makes it one."""
    match = _AFTER_NUMBER.match(after)
    if match is None:
        return number(spelled)
    if match["arrow"] or match["or"] or match["next"]:
        return "range"
    if match["second"]:
        word = (match["rest"] or "").strip(" .,*_\"'`)")
        descending = float(match["second"]) < float(spelled)
        return (
            number(spelled) if match["gap"] and descending and word[:1].isalpha() and match["to"] != "to" else "range"
        )
    top = match["of"] or match["top"]
    return number(spelled) if top is not None and float(top) == 100 else None


def _unquoted(text: str) -> str:
    """The text with quotations blanked: the words of somebody else."""
    for pattern in (
        r'(?<!\w)"(?=[^"\n]*[\s>:])[^"\n]*(?:"|\Z)',
        r"“[^”]*(?:”|\Z)",
        r"«[^»]*(?:»|\Z)",
        r"(?<!`)`(?!`)(?=[^`\n]*[\s>:])[^`\n]*`",
        r"(?<![\w{,])'(?=[^'\n]*[\s>:])[^'\n]*'(?!\w)",
        r"(?<![\w])‘[^’\n]*’",
    ):
        text = re.sub(pattern, _blank, text)
    return text


def _blank(match: re.Match[str]) -> str:
    whole = match.start() == 0 and match.end() == len(match.string)
    keys = re.match(r"""["'`]?\s*:""", match.string[match.start() + 1 :])
    return match[0] if whole or keys else " " * len(match[0])
