"""Which of a few words, such as yes, no and maybe, a free answer settles on. The rules: docs/answers.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.answers.settle import MENTION, label, plain, settled, word

_FOLLOWS_NO = (
    r"it|they|he|she|we|i|you|there|this|that|these|those|the|an?|because|since|but|and|or|as|is|if|not|according|based|"
    r"in (?:this|the|our)"
)
_BEFORE_NO = (
    r"is|be|are|was|say|answer|answered|therefore|thus|hence|so|but|then|that|would|definitely|clearly|probably|likely|"
    r"and|or|not|an?|just|simply|it's|think|believe|conclude|verdict|conclusion|either|nor|choose"
)
_NO = re.compile(
    rf"(?:(?<=\A)|(?<=[\n.:;,!?=()\[\]<>\"'/#\ue200-])|(?<=\s))(?P<no>no)(?=\s*(?:[.,:;!?)\]\"'</]|-\s|\n|\Z)|\s+(?:{_FOLLOWS_NO})\b)",
    re.IGNORECASE,
)
_HEAD = re.compile(rf"(?:\A|[\n.:;,!?=()\[\]<>\"'/#>\ue000-\ue2ff-]|\b(?:{_BEFORE_NO}))\s*\Z", re.IGNORECASE)


def named_word(text: str, words: Sequence[str] = ("yes", "no", "maybe")) -> str:
    """The word that a free answer settles on.

    `no` is an answer where it stands for itself ("No, ...", "the answer is no"), not before a noun ("no doubt", "no
    difference"). A list of all the words that is asked or offered ("yes/no/maybe") names none of them.

    Args:
        text: the answer as the model gave it.
        words: what the question can be answered with, in small letters.

    Returns:
        One of `words`; empty where the answer names none or leaves several open.
    """
    clean = plain(text)
    alternatives = "|".join(map(re.escape, words))
    listed = rf"[(\[]?\b(?:{alternatives})(?:\s*(?:,|/|or|\|)+\s*(?:or\s+)?(?:{alternatives}))+\b[)\]]?\s*(?=[?:\]])"
    clean = re.sub(listed, " ", clean, flags=re.IGNORECASE)
    if "no" in words:
        clean = _NO.sub(lambda match: _marked_no(match, list(words).index("no")), clean)
    for place, name in enumerate(words):
        if name != "no":
            clean = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word(place), clean, flags=re.IGNORECASE)
    clean = re.sub(rf"({MENTION}),", r"\1;", clean)  # "Yes, maybe in adults" is no list
    opening = re.match(rf"[\s\"'(\[]*{MENTION}", clean)
    if opening:
        at = opening.end() - 1
        clean = clean[:at] + label(ord(clean[at]) - ord(word(0))) + clean[at + 1 :]
    found = settled(clean, len(words))
    return "" if found is None else words[found]


def _marked_no(match: re.Match[str], place: int) -> str:
    return word(place) if _HEAD.search(match.string[: match.start()]) else match[0]
