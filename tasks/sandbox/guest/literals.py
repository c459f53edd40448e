"""Values over a pipe: builtin and standard-library values as JSON, and references to everything else.

A value that crosses loses a class of the candidate's: a subclass arrives as the type of the library that it derives
from, and an object of any other class stays where it lives and arrives as a reference. So no code that a candidate
defines takes part in a comparison.
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import contextmanager

from . import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Refer = Callable[[Any], int]
    Resolve = Callable[[int, str, bool], Any]
    """From number, class name, and whether the class compares by identity."""

JSON_INTEGERS = 2**63
DEEP = 5000
BUILTIN_TYPES = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, object, range)
}
CONSTANTS = {"Ellipsis": ..., "NotImplemented": NotImplemented, "nan": math.nan}
"""Objects that are recognised by identity: in a list, Python takes the one `math.nan` for equal to itself."""


class NotALiteral(ValueError):
    """A value that may not cross, or a line that is not one of ours."""


@contextmanager
def deep() -> Iterator[None]:
    """Room to take apart or rebuild what a program nests as deep as it may: that takes more calls than comparing."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEP))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def dump(message: dict[str, Any]) -> bytes:
    """One line of the wire. NaN and infinities are written as Python's json does and read back by it."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _int(value: Any, refer: Refer) -> Any:
    number = int.__index__(value)
    return number if -JSON_INTEGERS < number < JSON_INTEGERS else {"t": "int", "v": hex(number)}


def _sequence(kind: Any) -> Callable[[Any, Refer], Any]:
    def encoded(value: Any, refer: Refer) -> Any:
        return {"t": kind.__name__, "v": [encode(item, refer) for item in kind.__iter__(value)]}

    return encoded


ENCODERS: dict[type, Callable[[Any, Refer], Any]] = {
    bool: lambda value, refer: value,
    int: _int,
    float: lambda value, refer: float.__float__(value),
    complex: lambda value, refer: {"t": "complex", "v": [value.real, value.imag]},
    str: lambda value, refer: str.__str__(value),
    bytes: lambda value, refer: {"t": "bytes", "v": bytes.hex(value)},
    bytearray: lambda value, refer: {"t": "bytearray", "v": bytearray.hex(value)},
    list: lambda value, refer: [encode(item, refer) for item in list.__iter__(value)],
    tuple: _sequence(tuple),
    set: _sequence(set),
    frozenset: _sequence(frozenset),
    dict: lambda value, refer: {
        "t": "dict",
        "v": [[encode(key, refer), encode(item, refer)] for key, item in dict.items(value)],
    },
}


def encode(value: Any, refer: Refer) -> Any:
    """JSON-ready form of `value`.

    `refer` gives the number of an object that is no literal; it raises `NotALiteral` where references may not be made.
    """
    if value is None:
        return None
    for name, constant in CONSTANTS.items():
        if value is constant:
            return {"t": "constant", "v": name}
    for name, kind in BUILTIN_TYPES.items():
        if value is kind:
            return {"t": "type", "v": name}
    own = type(value)
    for cls in own.__mro__:
        if cls in ENCODERS:
            return ENCODERS[cls](value, refer)
        if (key := values.kind_of(cls)) is not None:
            return {"t": key, "v": [encode(part, refer) for part in values.take(key, value)]}
    return {"t": "ref", "v": refer(value), "type": own.__name__, "identity": own.__eq__ is object.__eq__}


def decode(data: Any, resolve: Resolve) -> Any:
    """The value that `encode` wrote, made of types of the library.

    `resolve` turns a reference into what stands for it here.

    Raises:
        NotALiteral: anything that `encode` would not have written.
    """
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        return [decode(item, resolve) for item in data]
    try:
        return _decode_tagged(data["t"], data["v"], data, resolve)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise NotALiteral(f"malformed value: {error}") from error


DECODERS: dict[str, Callable[[Any, Resolve], Any]] = {
    "tuple": lambda body, resolve: tuple(decode(item, resolve) for item in body),
    "dict": lambda body, resolve: {decode(key, resolve): decode(item, resolve) for key, item in body},
    "set": lambda body, resolve: {decode(item, resolve) for item in body},
    "frozenset": lambda body, resolve: frozenset(decode(item, resolve) for item in body),
    "int": lambda body, resolve: int(body, 16),
    "complex": lambda body, resolve: complex(*body),
    "bytes": lambda body, resolve: bytes.fromhex(body),
    "bytearray": lambda body, resolve: bytearray.fromhex(body),
    "type": lambda body, resolve: BUILTIN_TYPES[body],
    "constant": lambda body, resolve: CONSTANTS[body],
}


def _decode_tagged(tag: str, body: Any, data: dict[str, Any], resolve: Resolve) -> Any:
    if tag == "ref":
        return resolve(int(body), str(data.get("type", "object")), data.get("identity") is True)
    if tag in values.KINDS:
        return values.make(tag, [decode(part, resolve) for part in body])
    return DECODERS[tag](body, resolve)
