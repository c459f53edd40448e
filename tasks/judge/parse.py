"""From a judge's reply to a score: thinking set apart, the verdict found wherever it stands, no guess without one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

REASON_LENGTH = 600

_THINKING = re.compile(r"<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(r"<think(?:ing)?>(.*)\Z", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(r"\A(.*?)</think(?:ing)?>", re.DOTALL | re.IGNORECASE)

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_SCORE_LINE = re.compile(
    rf"\bscore\b[\s\"'*_`]*(?:is|of|[:=])[\s\"'*_`]*(?P<score>{_NUMBER})(?![\d.]*\d)"
    rf"(?P<out_of>\s*/\s*{_NUMBER}|\s+out\s+of\s+{_NUMBER})?(?P<range>\s*(?:-|–|to)\s*\d)?",
    re.IGNORECASE,
)
_REASON_LINE = re.compile(r"\breason(?:ing)?\b[\s\"'*_`]*[:=]\s*[\"'*_`]*(?P<reason>[^\n]+)", re.IGNORECASE)
_SCORE_TEXT = re.compile(rf"\s*(?P<score>{_NUMBER})(?P<out_of>\s*/\s*{_NUMBER})?\s*%?\s*")


@dataclass(frozen=True)
class Parsed:
    """A verdict found in a text: `score` from 0 to 100, `reason` in the judge's words (may be empty)."""

    score: float
    reason: str


def split_thinking(text: str) -> tuple[str, str]:
    """Thinking and what remains, of a reply that may hold `<think>` blocks.

    A block that was never closed (a reply cut off while thinking) is thinking to its end; a closing tag without an
    opening one (templates that put the opening tag into the prompt) makes everything before it thinking.
    """
    thinking: list[str] = []

    def take(match: re.Match[str]) -> str:
        thinking.append(match[1].strip())
        return ""

    rest = _UNCLOSED.sub(take, _UNOPENED.sub(take, _THINKING.sub(take, text)))
    return "\n".join(part for part in thinking if part), rest.strip()


def parse_verdict(text: str, *, cut: bool = False) -> Parsed | None:
    """The verdict in a reply without its thinking; None when there is none, or when the reply gives several.

    Looked for in this order: JSON objects with a `score` anywhere in the text (the last one counts, for judges that
    draft before they decide), then `score: 85` and the like. A score outside 0 to 100, out of another total (`8/10`),
    or a range is no score; nor is a number that ends a reply cut at its token limit (`cut`) or an unfinished JSON
    object, because digits may be missing.
    """
    objects = [found for found in _json_objects(text) if "score" in found]
    if objects:
        return _from_object(objects[-1])
    stated = list(_SCORE_LINE.finditer(text))
    if any(match["range"] or _unfinished(match, cut) for match in stated):
        return None
    scores = {_checked(match["score"], match["out_of"]) for match in stated}
    if len(scores) != 1 or (score := scores.pop()) is None:
        return None
    reason = _REASON_LINE.search(text)
    return Parsed(score, _clipped(reason["reason"].rstrip(" \"'*_`}") if reason else ""))


def _unfinished(match: re.Match[str], cut: bool) -> bool:
    at_end = match.end() == len(match.string)
    return at_end and (cut or '"' in match[0])


def _from_object(found: dict[str, Any]) -> Parsed | None:
    value = found["score"]
    if isinstance(value, str):
        match = _SCORE_TEXT.fullmatch(value)
        score = _checked(match["score"], match["out_of"]) if match else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        score = _in_range(value)
    else:
        score = None
    reason = found.get("reason")
    return None if score is None else Parsed(score, _clipped(reason if isinstance(reason, str) else ""))


def _checked(number: str, out_of: str | None) -> float | None:
    if out_of is not None and float(re.findall(_NUMBER, out_of)[-1]) != 100:
        return None
    return _in_range(float(number))


def _in_range(value: float) -> float | None:
    return float(value) if 0 <= value <= 100 and math.isfinite(value) else None


def _clipped(reason: str) -> str:
    flat = " ".join(reason.split())
    return flat if len(flat) <= REASON_LENGTH else flat[: REASON_LENGTH - 1] + "…"


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object that starts somewhere in the text, outermost first, left to right."""
    for value in json_values(text, "{"):
        if isinstance(value, dict):
            yield from _nested(value)


def json_values(text: str, opening: str) -> Iterator[Any]:
    """JSON values that start with one of the characters `opening`, wherever they stand in a text (code fences, prose).

    Values inside a value already found are not given again.
    """
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        if text[position] in opening:
            try:
                value, position = decoder.raw_decode(text, position)
            except ValueError:
                position += 1
            except RecursionError:
                return  # hundreds of braces in a row: a reply run wild, and slow to try at each of them
            else:
                yield value
        else:
            position += 1


def _nested(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield value
    for inner in value.values():
        if isinstance(inner, dict):
            yield from _nested(inner)
