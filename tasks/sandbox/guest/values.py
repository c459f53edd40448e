"""Value types of the standard library that cross the pipe by value, and are rebuilt as the same type on the other side.

Their equality is the library's, so a check compares them exactly as it would in the candidate's process. Subclasses
arrive as the type they derive from.
"""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Kind:
    """How one type is taken apart into values that can cross, and made again from them.

    `take` gets the type and the value, `make` the type and the parts.
    """

    def __init__(self, take: Callable[[Any, Any], list[Any]], make: Callable[..., Any]) -> None:
        self.take = take
        self.make = make


def _data(cls: Any, value: Any) -> list[Any]:
    return [value.data]


def _pairs(cls: Any, value: Any) -> list[Any]:
    return [[tuple(pair) for pair in cls.items(value)]]


def _counter(cls: Any, pairs: Any) -> Any:
    made = cls()
    dict.update(made, pairs)
    return made


def _factory(cls: Any, value: Any) -> list[Any]:
    return [value.default_factory if isinstance(value.default_factory, type) else None, *_pairs(cls, value)]


def _attributes(*names: str) -> Callable[[Any, Any], list[Any]]:
    return lambda cls, value: [getattr(value, name) for name in names]


def _call(cls: Any, *parts: Any) -> Any:
    return cls(*parts)


KINDS: dict[str, Kind] = {
    "builtins.range": Kind(_attributes("start", "stop", "step"), _call),
    "builtins.slice": Kind(_attributes("start", "stop", "step"), _call),
    "builtins.memoryview": Kind(lambda cls, value: [value.tobytes()], _call),
    "builtins.dict_keys": Kind(lambda cls, value: [list(value)], lambda cls, keys: dict.fromkeys(keys).keys()),
    "builtins.dict_values": Kind(lambda cls, value: [list(value)], lambda cls, items: dict(enumerate(items)).values()),
    "builtins.dict_items": Kind(lambda cls, value: [list(value)], lambda cls, pairs: dict(pairs).items()),
    "builtins.mappingproxy": Kind(lambda cls, value: [dict(value)], _call),
    "array.array": Kind(lambda cls, value: [value.typecode, value.tolist()], _call),
    "collections.deque": Kind(lambda cls, value: [list(cls.__iter__(value)), value.maxlen], _call),
    "collections.OrderedDict": Kind(_pairs, _call),
    "collections.Counter": Kind(_pairs, _counter),
    "collections.defaultdict": Kind(_factory, _call),
    "collections.ChainMap": Kind(lambda cls, value: list(value.maps), _call),
    "collections.UserDict": Kind(_data, _call),
    "collections.UserList": Kind(_data, _call),
    "collections.UserString": Kind(_data, _call),
    "datetime.date": Kind(lambda cls, value: [cls.isoformat(value)], lambda cls, text: cls.fromisoformat(text)),
    "datetime.datetime": Kind(lambda cls, value: [cls.isoformat(value)], lambda cls, text: cls.fromisoformat(text)),
    "datetime.time": Kind(lambda cls, value: [cls.isoformat(value)], lambda cls, text: cls.fromisoformat(text)),
    "datetime.timedelta": Kind(_attributes("days", "seconds", "microseconds"), _call),
    "decimal.Decimal": Kind(lambda cls, value: [cls.__str__(value)], _call),
    "fractions.Fraction": Kind(_attributes("numerator", "denominator"), _call),
    "pathlib.PurePosixPath": Kind(lambda cls, value: [cls.__str__(value)], _call),
    "types.SimpleNamespace": Kind(lambda cls, value: [dict(vars(value))], lambda cls, names: cls(**names)),
    "uuid.UUID": Kind(lambda cls, value: [str(value)], _call),
}
"""By module and name. A type outside `builtins` is looked for only where its module has been imported: no value of it
exists otherwise, and importing costs every start."""

UNNAMED: dict[str, type] = {
    "dict_keys": type({}.keys()),
    "dict_values": type({}.values()),
    "dict_items": type({}.items()),
    "mappingproxy": type(type.__dict__),
}
"""Types of `builtins` that no name is bound to."""


def kind_of(cls: type) -> str | None:
    """The key of `KINDS` for a type, not for its subclasses."""
    module, name = getattr(cls, "__module__", ""), cls.__qualname__  # a class of `type(...)` may have no module
    key = f"{module}.{name}" if module != "_collections" else f"collections.{name}"
    if key in KINDS and cls is find(key, imported=True):
        return key
    return None


def find(key: str, *, imported: bool = False) -> Any:
    """The type of a key; None where `imported` is asked and its module is not."""
    module, _, name = key.rpartition(".")
    if module == "builtins" and name in UNNAMED:
        return UNNAMED[name]
    if imported:
        return getattr(sys.modules.get(module), name, None)
    return getattr(importlib.import_module(module), name)


def take(key: str, value: Any) -> list[Any]:
    """The parts of a value, which may be anything that crosses."""
    return KINDS[key].take(find(key), value)


def make(key: str, parts: list[Any]) -> Any:
    """The value of these parts.

    Raises:
        KeyError, TypeError, ValueError, ArithmeticError: no value of that type has these parts.
    """
    if any(isinstance(part, range) for part in parts):
        raise TypeError("a range where its items belong")  # written out, twenty characters would fill the memory
    return KINDS[key].make(find(key), *parts)
