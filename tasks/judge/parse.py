"""From a judge's reply to a score: strictly, so that nothing a judge quotes, drafts or denies becomes its verdict.

In this order:

1. a reply that is one JSON object, fenced or not, is taken as it is: nothing is stripped, no text of it is searched;
2. thinking (`<think>...</think>`) is set apart at the beginning only, then the same again;
3. JSON objects that stand in the text, then statements such as `Score: 85` or `85/100` outside them and outside quotes.

Keys are read whatever their case; outer values count before inner ones; two different verdicts are no verdict. A score
is a number from 0 to 100 of a scale up to 100: another scale (`8/10`, `0.95`, `max_score: 10`) is no score.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.judge.objects import FENCE, Pairs, load_object, objects_in
from tasks.judge.scales import declares_other_scale, score_of
from tasks.judge.statements import stated_scores

REASON_LENGTH = 600

_OPENED = re.compile(r"\A\s*<think(?:ing)?>(.*?)(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(r"\A((?:(?!<think(?:ing)?>).)*?)</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_REASON_LINE = re.compile(r"\breason(?:ing)?\b[\s\"'*_`]*[:=]\s*[\"'*_`]*(?P<reason>[^\n]+)", re.IGNORECASE)

_SCORE_KEYS = {"score", "finalscore", "overallscore", "totalscore"}
_REASON_KEYS = ("reason", "reasoning", "rationale", "explanation", "justification")
_EXAMPLES = re.compile(r"rubric|scale|example|schema|candidate|quot|reference|criteria|legend|anchor")
"""Names of inner objects that explain or quote and give no verdict."""

_SPEAKS = (
    r"\b(?:candidate|answer|response|student|model|text|it|he|she|they|author|submission)\b[^.!?\n{]{0,60}?"
    r"\b(?:wrote|writes?|says?|said|claims?|claimed|states?|stated|reads?|contains?|contained|asks?|asked|instructs?|"
    r"demands?|demanded|includes?|included|outputs?|ends?|ended|gives?|gave|injects?|quotes?|quoted|tries|tried|requests?)\b"
    r"[^.!?\n{]{0,40}\Z"
)
_ATTRIBUTED = re.compile(
    rf"{_SPEAKS}|\b(?:e\.g\.|for example|such as|like|format|quote[ds]?)\b[^.!?\n{{]{{0,20}}\Z", re.I
)
_DRAFT = re.compile(r"\b(?:draft|first|initial(?:ly)?|tentative(?:ly)?|preliminary)\b", re.IGNORECASE)
_FINAL = re.compile(
    r"\b(?:wait|my (?:own )?(?:verdict|score|judge?ment|rating)|final(?:ly)?|correction|corrected|revised|"
    r"reconsider\w*|on (?:reflection|second thought)|instead)\b",
    re.I,
)


@dataclass(frozen=True)
class Parsed:
    """A verdict found in a text: `score` from 0 to 100, `reason` in the judge's words (may be empty)."""

    score: float
    reason: str


@dataclass(frozen=True)
class Reading:
    """A whole reply: its verdict if it holds one, and its text and thinking told apart."""

    verdict: Parsed | None
    text: str
    thinking: str


def read(reply: str, *, cut: bool = False) -> Reading:
    """What a reply says.

    Args:
        reply: the text that came back, thinking included.
        cut: the reply ended at its token limit, so that digits may be missing at its end.
    """
    if load_object(reply) is not None:
        return Reading(parse_verdict(reply, cut=cut), reply.strip(), "")
    thinking, text = split_thinking(reply)
    return Reading(_behind_thinking(reply, thinking, text, cut), text, thinking)


def split_thinking(text: str) -> tuple[str, str]:
    """Thinking at the beginning of a reply, and what remains.

    A block that was never closed (a reply cut off while thinking) is thinking to its end; a closing tag without an
    opening one (templates that put the opening tag into the prompt) makes everything before it thinking. Tags further
    on belong to the text: a judge may quote them.
    """
    match = _OPENED.match(text) or (None if _quoted_tag(text) else _UNOPENED.match(text))
    return ("", text.strip()) if match is None else (match[1].strip(), text[match.end() :].strip())


def _quoted_tag(text: str) -> bool:
    """Whether the first closing tag stands inside an open quotation."""
    before = re.split(r"</think", text, maxsplit=1, flags=re.IGNORECASE)[0]
    line = before.rpartition("\n")[2]
    return line.count('"') % 2 == 1 or line.count("`") % 2 == 1 or bool(re.search(r"(?:\W|\A)['‘“«]\s*\Z", before))


def _behind_thinking(reply: str, thinking: str, text: str, cut: bool) -> Parsed | None:
    verdict = parse_verdict(text, cut=cut)
    if verdict is None or not thinking or _OPENED.match(reply):
        return verdict
    # Nobody opened this thinking, so the tag may be one that the judge quotes: the verdict then has to be an object or
    # begin a line, and what stands before the tag may neither end in a quotation nor be another verdict.
    rest = reply[_UNOPENED.match(reply).end() :]  # type: ignore[union-attr]
    same_line = rest.partition("\n")[0].strip()
    if (same_line and not same_line.startswith(("{", FENCE))) or _ATTRIBUTED.search(thinking):
        return None
    earlier = parse_verdict(thinking)
    return verdict if earlier is None or earlier.score == verdict.score else None


def parse_verdict(text: str, *, cut: bool = False) -> Parsed | None:
    """The verdict in a reply without its thinking; None when there is none, or when the reply gives several.

    A score outside 0 to 100, of another scale, or a range is no score; nor is a number that ends a reply cut at its
    token limit (`cut`) or an unfinished JSON object, because digits may be missing.
    """
    whole = load_object(text)
    if whole is not None:
        return _of_object(whole)
    found = [(start, end, pairs) for start, end, pairs in objects_in(text) if _has_score(pairs)]
    quoted = [_ATTRIBUTED.search(text[:start]) is not None for start, _, _ in found]
    own = [one for one, is_quoted in zip(found, quoted, strict=True) if not is_quoted]
    outside = _blanked(text, [(start, end) for start, end, _ in found])
    if declares_other_scale(outside):
        return None
    stated = stated_scores(outside, cut=cut)
    if own:
        return _of_objects(text, own, stated)
    if stated is None or len(set(stated)) != 1 or stated[0] is None:
        return None
    reason = _REASON_LINE.search(outside)
    return Parsed(stated[0], _clipped(reason["reason"].rstrip(" \"'*_`}") if reason else ""))


def _of_objects(text: str, found: list[tuple[int, int, Pairs]], stated: list[float | None] | None) -> Parsed | None:
    verdicts = [_of_object(pairs) for _, _, pairs in found]
    last = verdicts[-1]
    if last is None or stated is None:
        return None
    if any(score != last.score for score in stated):
        return None
    others = [one for one in verdicts[:-1] if one is None or one.score != last.score]
    if not others:
        return last
    between = text[found[-2][1] : found[-1][0]]
    revised = _FINAL.search(between) or (_DRAFT.search(text[: found[0][0]]) and len(found) == 2)
    return last if revised else None


def _has_score(pairs: Pairs) -> bool:
    return any(_key(name) in _SCORE_KEYS for level in _levels(pairs) for object_ in level for name, _ in object_)


def _of_object(pairs: Pairs) -> Parsed | None:
    """The verdict of an object: the scores of its outermost level that has any, which have to agree."""
    for level in _levels(pairs):
        scored = [one for one in level if any(_key(name) in _SCORE_KEYS for name, _ in one)]
        if not scored:
            continue
        scores = {
            score_of(value, [pair for pair in one if _key(pair[0]) not in _SCORE_KEYS])
            for one in scored
            for name, value in one
            if _key(name) in _SCORE_KEYS
        }
        if len(scores) != 1 or (score := scores.pop()) is None:
            return None
        reasons = [value for one in (*scored, pairs) for name, value in one if _key(name) in _REASON_KEYS]
        return Parsed(score, _clipped(next((text for text in reasons if isinstance(text, str)), "")))
    return None


def _levels(pairs: Pairs) -> Iterator[list[Pairs]]:
    """The objects of each depth, outermost first; those that explain a scale or quote are left out."""
    level = [pairs]
    while level:
        yield level
        below: list[Pairs] = []
        for one in level:
            for name, value in one:
                if not _EXAMPLES.search(_key(name)):
                    below += _inner(value)
        level = below


def _inner(value: Any) -> list[Pairs]:
    if isinstance(value, Pairs):
        return [value]
    return [one for item in value for one in _inner(item)] if isinstance(value, list) else []


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _blanked(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _clipped(reason: str) -> str:
    flat = " ".join(reason.split())
    return flat if len(flat) <= REASON_LENGTH else flat[: REASON_LENGTH - 1] + "…"
