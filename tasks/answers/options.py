"""The option of a multiple-choice question that a free answer names. The rules: docs/answers.md."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tasks.answers.settle import LABEL, OTHER, label, plain, settled, word

_PLACES = "ABCDEFGHJ"
"""Letters that are taken for a label even where no option has them; `I` is a pronoun."""

_AFTER_LABEL = (
    "because|since|as|and|or|but|not|which|due|for|is|are|was|would|could|should|might|may|will|can|has|does|do|in|with|"
    "given|from|the|this|that|it|its|here|rather|instead|over|seems?|appears?|looks|fits|wins|explanation|reason|"
    "rationale|i|we|so|than|if|while|whereas|although|though|isn't|doesn't|won't|can't|cannot|both|only|to|by|best|"
    "correct|wrong|right|incorrect"
)
_BEFORE_LABEL = (
    "is|be|are|was|options?|choices?|letter|answer|ans|choose|chose|pick|select|with|for|say|think|believe|and|or|not|"
    "than|over|either|both|between|neither|nor|only|so|therefore|thus|hence|it's|that's|prefer|conclude|that|but|mark|"
    "guess|of|to|favou?r|recommend|suggest|then|probably|likely|definitely|clearly|certainly|obviously|also|except|"
    "excluding|unlike|out|eliminate|avoid|cannot|never|isn't|still|just|simply|on|because|since|while|although|though|"
    "whereas|if|verdict|conclusion|decision|response|solution|i'd|against|leaves|leaving"
)
_TAIL = re.compile(r"(?!\w|'\w|\+|-\w|\.\w)(?P<close>[)\]}>\"']*)(?P<rest>[^\n]*)")
_HEAD = re.compile(rf"(?:\A|[\n.:;,!?=()\[\]{{}}<>\"'/&+#\ue000-\ue2ff-]|\b(?:{_BEFORE_LABEL}))[ \t]*\Z", re.IGNORECASE)
_LETTER = re.compile(r"(?<![\w.])(?<!\w['-])[A-Za-z]")


def named_option(text: str, options: Mapping[str, str]) -> str:
    """The option that a free answer settles on.

    Args:
        text: the answer as the model gave it.
        options: the words of every option by its letter.

    Returns:
        The option's letter; empty where the answer names none or leaves several open.
    """
    letters = list(options)
    marked = _labels(_words(plain(text), options), letters)
    found = settled(_joined(marked, len(letters)), len(letters))
    if found is None and not re.search("[\ue000-\ue1ff]", marked):
        found = _part(marked, options)
    return "" if found is None else letters[found]


def _words(text: str, options: Mapping[str, str]) -> str:
    """Mark the words of every option, longest first; a plural is the same words."""
    places = {letter: place for place, letter in enumerate(options)}
    for letter, words in sorted(options.items(), key=lambda option: -len(option[1])):
        tokens = _tokens(plain(words))
        if tokens:
            pattern = r"[\W_]*".join(re.escape(token) for token in tokens)
            spaced = rf"(?<![\w<>])(?<!\d[.,])(?:{pattern})(?:e?s)?(?![\w%+])(?![.,]\d)"
            text = re.sub(spaced, word(places[letter]), text, flags=re.IGNORECASE)
    return text


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^\W_]+|[%+<>=±]", text.lower())


def _labels(text: str, letters: list[str]) -> str:
    """Mark the letters that stand for options."""

    def mark(match: re.Match[str]) -> str:
        letter = match[0].upper()
        if not _is_label(match, letters):
            return match[0]
        return label(letters.index(letter)) if letter in letters else OTHER if letter in _PLACES else match[0]

    # A letter may follow another ("A and B"), whose mark then stands before it.
    while True:
        marked = _LETTER.sub(mark, text, count=0)
        if marked == text:
            return marked
        text = marked


def _is_label(match: re.Match[str], letters: list[str]) -> bool:
    text, letter = match.string, match[0]
    tail = _TAIL.match(text, match.end())
    before = text[: match.start()]
    if tail is None or not _HEAD.search(before[-40:] if len(before) > 40 else before):
        return False
    closed, rest = bool(tail["close"]), tail["rest"]
    if rest.strip(" .,:;!?") == "" or (closed and re.search(r"[(\[{<\"']\s*\Z|(?:\A|\n)\s*\Z", before)):
        return letter.isupper() or _introduced(before)
    follows = re.match(rf"\s+(?:{_AFTER_LABEL})\b", rest, re.IGNORECASE)
    if letter.islower():
        return (
            (closed or rest[0] in ".,:;" or (letter != "a" and follows is not None))
            and _introduced(before)
            and (not _is_name(rest))
        )
    if rest[0].isspace():
        own = letter in letters and re.match(rf"\s+{word(letters.index(letter))}", rest)
        return bool(follows or own or re.match(rf"\s*[-/&(:=]|\s+{LABEL}", rest))
    return not _is_name(rest)


def _introduced(before: str) -> bool:
    """Whether a small letter can be a label here: at the beginning, in brackets, after `answer:` or `option`."""
    return bool(
        re.search(
            r"(?:\A\s*|[(\[{\"'<]|[:=>-]\s*|\n\s*|\b(?:option|choice|letter|answer|answer is|choose|pick|select|with|"
            r"\ue200)\s+|\ue200\s*|#\s+)[(\[{\"']*\Z",
            before,
            re.IGNORECASE,
        )
    )


def _is_name(rest: str) -> bool:
    """`C. difficile`: a full stop and a small letter that begins no clause."""
    return bool(re.match(r"\.\s*[a-z]", rest) and not re.match(rf"\.\s*(?:{_AFTER_LABEL}|an?)\b", rest, re.IGNORECASE))


def _joined(text: str, count: int) -> str:
    """One mention for a label and the words beside it; words of another option contradict the label."""

    def join(match: re.Match[str]) -> str:
        name, between, words = match[1], match[2], match[3]
        place = ord(name) - ord(label(0))
        same = ord(words) - ord(word(0)) == place
        if same:
            return name + match[4]
        if place == 0 and between.startswith(":") and match.start() == 0:
            return words + match[4]  # "A: beta blocker" is short for "Answer:"
        ends = re.match(r"[)\s.\"']*(?:\Z|\n)|[.)]\s", match[4] + match.string[match.end() :])
        return OTHER + match[4] if ends else match[0]

    return re.sub(rf"({LABEL})([).:\]\s,\"'>=-]*)([\ue000-\ue0ff])([)\"']*)", join, text)


def _part(text: str, options: Mapping[str, str]) -> int | None:
    """The one option of which a short answer is a part: `B12` of `Vitamin B12`."""
    lead = re.compile(
        r"\A.*\b(?:answer|choice|option)\b(?:\s+(?:is|would be)\b|\s*[:=-])\s*", re.IGNORECASE | re.DOTALL
    )
    said = re.split(r"[.!?;\n](?:\s|\Z)", lead.sub("", text).replace("\ue200", "").strip())[0]
    tokens = [token for token in _tokens(said) if token not in ("the", "a", "an", "give", "use", "start")]
    sound = any(len(token) > 3 or (re.search(r"\d", token) and len(token) > 1) for token in tokens)
    if not tokens or len(tokens) > 6 or not sound or set(tokens) & {"not", "no", "never", "none", "neither", "cannot"}:
        return None
    phrase = f" {' '.join(tokens)} "
    inside = [place for place, words in enumerate(options.values()) if phrase in f" {' '.join(_tokens(words))} "]
    return inside[0] if len(inside) == 1 else None
