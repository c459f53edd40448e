"""Where files and texts from outside become values: one reader for files, one for YAML, one for JSON.

What cannot be meant is refused here, whoever asks: pipes and devices, other encodings, keys that stand twice, aliases
that multiply, nesting without end, numbers of thousands of digits, half a surrogate pair. Callers say whose file it is
and what mends it, so an `Unreadable` is the middle of their sentence.
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LARGEST = 256 * 2**20
"""Bytes of a file that is read as one text."""
DEEPEST = 100
"""Lists and mappings in one another."""
LONGEST_NUMBER = 400
"""Characters of a number: more than the digits of any that a float holds."""
MULTIPLIED = 100_000
"""Nodes that aliases may add to a YAML text; those of nine lines can be a billion."""


class Unreadable(ValueError):
    """What is wrong with a file or a text, as the middle of a sentence: `is not in UTF-8`."""


def regular(path: Path) -> Path:
    """The path itself, of a regular file.

    Raises:
        FileNotFoundError: there is none.
        Unreadable: a pipe, a device or a folder; to open the first would wait for ever.
    """
    _require_name(path)
    _require_regular(path.stat().st_mode)
    return path


def only_regular(folder: Path) -> None:
    """See that what a library will open in a folder are files or folders.

    Raises:
        Unreadable: a pipe or a device, which is named.
    """
    for path in sorted(folder.iterdir()):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # a link to nothing is no file that is there
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise Unreadable(f"holds {path.name}, which is a pipe or a device")


def opened(path: Path) -> io.BufferedReader:
    """A regular file, open for reading.

    Raises:
        OSError: it is not there, or may not be read.
        Unreadable: a pipe, a device or a folder.
    """
    _require_name(path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(handle).st_mode)
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _require_name(path: Path) -> None:
    if "\0" in str(path):
        raise Unreadable("has a null character in its name")


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise Unreadable("is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise Unreadable("is a pipe or a device, not a file")


def file_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """All of a regular file.

    Raises:
        OSError: it is not there, or may not be read.
        Unreadable: no regular file, or a larger one.
    """
    with opened(path) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise Unreadable(f"is larger than {largest // 2**20} MiB")
    return data


def file_text(path: Path, largest: int = LARGEST) -> str:
    """A text file, in UTF-8 with or without its mark.

    Raises:
        OSError, Unreadable: see `file_bytes`; or it is in another encoding.
    """
    return text_of(file_bytes(path, largest))


def text_of(data: bytes) -> str:
    """Bytes as UTF-8, with or without its mark; newlines as text files have them.

    Raises:
        Unreadable: they are no UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not in UTF-8 (byte {error.start + 1})") from None
    return text if "\r" not in text else io.StringIO(text, newline=None).read()


def json_value(text: str | bytes, *, halves: bool = False) -> Any:
    """The value of a JSON text. NaN and the infinities count as numbers, as Python writes them.

    Args:
        text: the whole of it.
        halves: whether texts may hold half a character, which the caller looks for where it matters.

    Raises:
        Unreadable: it is none, a key stands twice, it is nested too deeply, or it holds what is no text or no number.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_int=_whole, parse_float=_fraction)
    except Unreadable:
        raise
    except UnicodeDecodeError:
        raise Unreadable("is not in UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise Unreadable(f"is not valid JSON ({error.msg.lower()} at {where})") from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    # Whatever is no UTF-8 can only come from an escape.
    if not halves and _escapes(text):
        check_plain(value)
    return value


def _escapes(text: str | bytes) -> bool:
    return "\\ud" in text.lower() if isinstance(text, str) else b"\\ud" in text.lower()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Unreadable(f"has the key {_shown(twice)} twice")
    return value


def _whole(digits: str) -> int:
    _check_number(digits)
    return int(digits)


def _fraction(digits: str) -> float:
    _check_number(digits)
    return float(digits)


def _check_number(digits: str) -> None:
    if len(digits) > LONGEST_NUMBER:
        raise Unreadable(f"holds a number of {len(digits)} digits")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.1 as everybody reads it, with every key once."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> Any:
        """A mapping of distinct keys; those that `<<` brings may be replaced."""
        self.check_keys(node)
        return super().construct_mapping(node, deep)

    def check_keys(self, node: yaml.Node) -> None:
        """Raises:
        Unreadable: a key stands twice.
        """
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise Unreadable(f"has the key {_shown(key.value)} twice (line {key.start_mark.line + 1})")
                seen.add((key.tag, key.value))

    def construct_yaml_map(self, node: yaml.Node) -> Iterator[Any]:
        """See `construct_mapping`; before `<<` is written out, which leaves its keys beside the others."""
        self.check_keys(node)
        yield from super().construct_yaml_map(node)

    def construct_yaml_int(self, node: yaml.Node) -> Any:
        """A whole number of a length that a number has."""
        _check_number(str(node.value))
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.Node) -> Any:
        """A number of a length that a number has."""
        _check_number(str(node.value))
        return super().construct_yaml_float(node)


for _kind in ("map", "int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", getattr(_Loader, f"construct_yaml_{_kind}"))


def yaml_value(text: str, tags: tuple[str, ...] = ()) -> Any:
    """The value of a YAML text: null, switches, numbers, texts, lists, and mappings with texts as keys.

    Args:
        text: the whole of it.
        tags: further ones that are allowed, of which the texts alone are read.

    Raises:
        Unreadable: it is none, a key stands twice, its aliases name what holds them or multiply, it is nested too
            deeply, or it holds a date, a set, bytes or another kind of value that only a tag can give.
    """
    try:
        _measure(text)
        value = yaml.load(text, Loader=_with(tags) if tags else _Loader)
        check_plain(value)
    except Unreadable:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or "").split())
        raise Unreadable(f"is not valid YAML{where}{f' ({problem[:120]})' if problem else ''}") from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except (ValueError, OverflowError, TypeError, AttributeError) as error:  # of a date, a number or a tag
        raise Unreadable(f"is not valid YAML ({' '.join(str(error).split())[:120]})") from None
    return value


def _with(tags: tuple[str, ...]) -> type[_Loader]:
    class Tagged(_Loader):
        pass

    for tag in tags:
        Tagged.add_constructor(tag, lambda loader, node: str(node.value))
    return Tagged


def _measure(text: str) -> None:
    """See that a YAML text is neither deep nor large once its aliases are written out; builds nothing.

    Raises:
        Unreadable: it is.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []
    total = added = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_):
                raise Unreadable(f"has an alias *{event.anchor} inside what it names")
            size = sizes.get(str(event.anchor), 1)
            total, added = total + size, added + size
            if added > MULTIPLIED:
                raise Unreadable(f"multiplies itself by its aliases (*{event.anchor})")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, total))
            total += 1
            if len(open_) > DEEPEST:
                raise Unreadable("is nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1


def check_plain(value: Any, depth: int = 0) -> None:
    """See that a value is one that JSON has, with texts that UTF-8 has and numbers of a usual length.

    Raises:
        Unreadable: says what it holds.
    """
    if depth > DEEPEST:
        raise Unreadable("is nested too deeply")
    if isinstance(value, str):
        if not value.isascii():
            _check_text(value)
    elif isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                raise Unreadable(f"has a key that is no text ({_shown(key)}): put it in quotes")
            check_plain(key, depth)
            check_plain(one, depth + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            check_plain(one, depth + 1)
    elif isinstance(value, int) and abs(value) >= 1 << 1024:
        raise Unreadable("holds a number that is too large")
    elif value is not None and not isinstance(value, int | float):
        raise Unreadable(f"holds {_shown(value)}, which is no text, number, list or mapping: put it in quotes")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unreadable(f"holds half a character (\\u{ord(text[error.start]):04x})") from None


def finite(value: Any) -> bool:
    """Whether a value is a number, and neither infinite nor NaN; switches are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1 << 1024 if isinstance(value, int) else math.isfinite(value)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
