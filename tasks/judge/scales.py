"""Numbers of a judge, and whether they are on the scale from 0 to 100 that every rubric names."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d{1,2})?"
_OF = rf"(?:/|\bout\s+of\b|\bof\b)\s*(?P<of>{NUMBER})"
_TEXT = re.compile(
    rf"\s*(?P<score>{NUMBER})\s*(?:[(\[]?\s*{_OF}\s*[)\]]?|%|percent|points?|pts\.?)?\s*(?:points?|pts\.?)?\s*\.?\s*",
    re.I,
)
_SCALE_KEYS = re.compile(
    r"(?:score)?(?:max(?:imum)?|outof|of|scale|range|total|possible|denominator|full|upperbound)(?:score|points?|value)?"
)
_OTHER_SCALE = re.compile(
    rf"\b(?:scale|range)\s*(?:of|from|is|:|=)?\s*\(?\s*(?P<low>{NUMBER})\s*(?:-|–|to|through)\s*(?P<high>{NUMBER})"
    rf"|\bscore\s*[(\[]\s*(?:(?:out\s+)?of|max(?:imum)?|/)?\s*(?:(?P<low2>{NUMBER})\s*(?:-|–|to)\s*)?(?P<high2>{NUMBER})\s*[)\]]"
    rf"|\bscore\s+out\s+of\s+(?P<high3>{NUMBER})"
    rf"|\bmax(?:imum)?[\s_]*(?:score|points?)?\s*[\"']?\s*(?:is|of|[:=])\s*(?P<high4>{NUMBER})",
    re.IGNORECASE,
)


def number(text: str) -> float | None:
    """A score as spelled: from 0 to 100, and not one that may be a share of 1 (`0.95`, `1.0`); else None."""
    value = float(text)
    if not math.isfinite(value) or not 0 <= value <= 100:
        return None
    share = value < 1 or (value == 1 and "." in text)
    return None if share and value != 0 else value + 0.0


def score_of(value: Any, beside: Sequence[tuple[str, Any]]) -> float | None:
    """The score that a field holds; None for another type, another range or another scale.

    Args:
        value: of the field.
        beside: the other fields of its object, which may name another scale (`max_score`).
    """
    if any(_other_scale(name, other) for name, other in beside):
        return None
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return number(repr(value)) if abs(value) <= 1e6 else None
    if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
        inner = {re.sub(r"[^a-z]", "", name.lower()): one for name, one in value}
        given = [inner[name] for name in ("value", "score", "points") if name in inner]
        rest = [
            (name, one)
            for name, one in value
            if re.sub(r"[^a-z]", "", name.lower()) not in ("value", "score", "points")
        ]
        return score_of(given[0], rest) if len(given) == 1 and not isinstance(given[0], list) else None
    if not isinstance(value, str) or len(value) > 60:
        return None
    match = _TEXT.fullmatch(value.replace("*", ""))
    if match is None or (match["of"] is not None and float(match["of"]) != 100):
        return None
    return number(match["score"])


def _other_scale(name: str, value: Any) -> bool:
    if not _SCALE_KEYS.fullmatch(re.sub(r"[^a-z]", "", name.lower())):
        return False
    numbers = [float(one) for one in re.findall(r"\d+(?:\.\d+)?", str(value))]
    return max(numbers) != 100 if numbers else value is not None and "percent" not in str(value).lower()


def declares_other_scale(text: str) -> bool:
    """Whether a text names a scale that does not end at 100, so that no number in it can be taken for a score."""
    ends = [match[f"high{which}"] for match in _OTHER_SCALE.finditer(text) for which in ("", "2", "3", "4")]
    return any(end is not None and float(end) != 100 for end in ends)
