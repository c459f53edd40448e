"""Names that people type: the nearest ones to a wrong name, and lists separated by commas."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

from results.ground.errors import HarnessError

_CLOSING = {"[": "]", "{": "}"}


class ListError(HarnessError, ValueError):
    """A list in which a bracket or a quote is left open, or closed without having been opened."""


class UnknownName(HarnessError, ValueError):
    """Nothing of that kind has that name; the message offers the nearest ones."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The rest of a sentence about a name that does not exist: up to three near ones, else all that there are."""
    options = list(known)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    # A dotted key is often right but for its section: `entropy.sign` for `loss.entropy.sign`.
    close += [option for option in options if option.endswith(f".{name}") and option not in close]
    if close:
        return f"did you mean {' or '.join(close[:3])}?"
    return f"known: {', '.join(options)}." if options else "there is none."


def shown(value: object, longest: int = 80) -> str:
    """A value as Python writes it, short enough for a sentence."""
    try:
        text = ascii(value) if not repr(value).isprintable() else repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= longest else f"{text[: longest - 20]}…{text[-10:]}"


E = TypeVar("E", bound=UnknownName)


def unknown(kind: str, name: str, known: Iterable[str], error: type[E] = UnknownName) -> E:  # type: ignore[assignment]
    """The error for a name that does not exist: what it was meant to name, and the nearest names that do exist.

    Args:
        kind: what the name should have named, e.g. `method`.
        name: as the user wrote it.
        known: all names of that kind.
        error: class of the error.
    """
    return error(f"Unknown {kind} '{name}': {nearest(name, known)}")


def respelled(name: str, known: Iterable[str]) -> str:
    """The one of `known` that a name is but for the order of the settings in its brackets; else the name.

    `mixer[b=2, a=1]` is the row `mixer[a=1,b=2]`.
    """
    wanted = _settings(name)
    return next((one for one in known if _settings(one) == wanted), name)


def _settings(name: str) -> tuple[str, list[str]]:
    """A row's name without its settings, and those in one order; the whole name where there are none to be read."""
    head, bracket, inside = name.strip().partition("[")
    if not bracket or not inside.endswith("]"):
        return name.strip(), []
    try:
        return head, sorted(commas(inside[:-1]))
    except ListError:
        return name.strip(), []


def commas(text: str) -> list[str]:
    """Parts between commas that stand outside brackets and quotes: `mixer[a=1,b=[2,3]],mole` has two.

    Quotes are YAML's: `'` doubles to stand for itself, `"` takes a backslash before it. Both open only where a value
    begins, so that `it's` is a word. Parts are stripped; after a last comma nothing needs to stand.

    Raises:
        ListError: a bracket or a quote is not closed, a bracket is closed that is not open, or nothing stands before a
            comma.
    """
    parts: list[str] = []
    open_: list[str] = []
    quote, start, escaped = "", 0, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped = quote == '"' and character == "\\"
            quote = "" if character == quote else quote
        elif character in "'\"" and _begins(text[:index]):
            quote = character
        elif character in _CLOSING:
            open_.append(character)
        elif character in _CLOSING.values():
            if not open_ or _CLOSING[open_.pop()] != character:
                raise ListError(f"In '{text}' the bracket {character} closes none that is open: remove or open it.")
        elif character == "," and not open_:
            parts.append(text[start:index])
            start = index + 1
    if quote:
        raise ListError(f"In '{text}' the quote {quote} is not closed: close it.")
    if open_:
        raise ListError(f"In '{text}' the bracket {open_[-1]} is not closed: add {_CLOSING[open_[-1]]}.")
    stripped = [part.strip() for part in (*parts, text[start:])]
    if "" in stripped[:-1]:
        raise ListError(f"In '{text}' nothing stands before a comma: give a name there, or take the comma away.")
    return stripped if stripped[-1] else stripped[:-1]


def _begins(before: str) -> bool:
    """Whether a value begins after `before`: at the start of a part, after `=`, `:` or an opening bracket, or right
    after a closing quote (a doubled one)."""
    last = before.rstrip()[-1:]
    return last in ("", ",", "=", ":", *_CLOSING) or before[-1:] == "'"
