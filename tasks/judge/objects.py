"""Objects in a judge's reply: JSON as it is meant to be, and as language models write it.

An object is a list of (name, value), so that a name that occurs twice is seen twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

FENCE = "```"
_LONGEST = 20_000
"""Characters of an object that is read leniently; what is longer is no verdict of two fields."""
_FENCED = re.compile(r"\A```[a-zA-Z0-9]*\s*\n?(.*?)\n?\s*```\Z", re.DOTALL)
_SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000\ufeff", " "))


class Pairs(list[tuple[str, Any]]):
    """The fields of one object, in order."""


_DECODER = json.JSONDecoder(object_pairs_hook=Pairs, strict=False)
"""`strict=False`: a raw line break inside a string is what models write."""


def load_object(text: str) -> Pairs | None:
    """The object that a whole text is, fenced or not; None where it is anything else."""
    text = text.strip().translate(_SPACES)
    fenced = _FENCED.match(text)
    inner = fenced[1].strip() if fenced else text
    if not (inner.startswith("{") and inner.endswith("}")):
        return None
    try:
        value, end = _DECODER.raw_decode(inner)
    except (ValueError, RecursionError):
        return _lenient(inner)
    return value if isinstance(value, Pairs) and not inner[end:].strip() else None


def objects_in(text: str) -> Iterator[tuple[int, int, Pairs]]:
    """Objects that stand in a text, from left to right: where each begins and ends, and its fields."""
    text = text.translate(_SPACES)  # character by character, so that places stay what they are
    position = 0
    while (position := text.find("{", position)) >= 0:
        try:
            value, end = _DECODER.raw_decode(text, position)
        except ValueError:
            value, end = None, position + 1
        except RecursionError:
            return  # hundreds of braces in a row: a reply run wild, and slow to try at each of them
        if value is None and (closing := text.find("}", position)) >= 0 and "{" not in text[position + 1 : closing]:
            value = _lenient(text[position : closing + 1])
            end = closing + 1 if value is not None else end
        if isinstance(value, Pairs):
            yield position, end, value
        position = end


def _lenient(text: str) -> Pairs | None:
    """An object with bare or single-quoted names, read as YAML's flow style; nothing is converted or built."""
    if len(text) > _LONGEST:
        return None
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    if not isinstance(node, yaml.MappingNode) or not node.flow_style:
        return None
    pairs = _pairs(node)
    # `{"score": 8,5}` is a decimal comma to its writer and a second, numeric name to YAML.
    return None if any(not re.search(r"[^\W\d]", name) for name, _ in pairs) else pairs


def _pairs(node: Any) -> Pairs:
    return Pairs((str(name.value), _value(value)) for name, value in node.value)


def _value(node: Any) -> Any:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return _pairs(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(one) for one in node.value]
    return str(node.value)


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
