"""Plain literals over a pipe: exact builtin values as JSON, and references to everything else.

A value that crosses loses its class: subclasses of a builtin arrive as that builtin, and an object of any other class
stays where it lives and arrives as a reference. So nothing that a candidate defines can take part in a comparison.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Refer = Callable[[Any], int]
Resolve = Callable[[int, str], Any]

JSON_INTEGERS = 2**63
BUILTIN_TYPES = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, object)
}


class NotALiteral(ValueError):
    """A value that may not cross, or a line that is not one of ours."""


def dump(message: dict[str, Any]) -> bytes:
    """One line of the wire. NaN and infinities are written as Python's json does and read back by it."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def encode(value: Any, refer: Refer) -> Any:
    """JSON-ready form of `value`.

    `refer` gives the number of an object that is no literal; it raises `NotALiteral` where references may not be made.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        number = int.__index__(value)
        return number if -JSON_INTEGERS < number < JSON_INTEGERS else {"t": "int", "v": hex(number)}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, complex):
        return {"t": "complex", "v": [value.real, value.imag]}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray):
        return {"t": "bytes" if isinstance(value, bytes) else "bytearray", "v": value.hex()}
    if isinstance(value, list):
        return [encode(item, refer) for item in list.__iter__(value)]
    if isinstance(value, tuple):
        return {"t": "tuple", "v": [encode(item, refer) for item in tuple.__iter__(value)]}
    if isinstance(value, set):
        return {"t": "set", "v": [encode(item, refer) for item in set.__iter__(value)]}
    if isinstance(value, frozenset):
        return {"t": "frozenset", "v": [encode(item, refer) for item in frozenset.__iter__(value)]}
    if isinstance(value, dict):
        return {
            "t": "dict",
            "v": [[encode(key, refer), encode(item, refer)] for key, item in dict.items(value)],
        }
    for name, kind in BUILTIN_TYPES.items():
        if value is kind:
            return {"t": "type", "v": name}
    return {"t": "ref", "v": refer(value), "type": type(value).__name__}


def decode(data: Any, resolve: Resolve) -> Any:
    """The value that `encode` wrote, made of exact builtins.

    `resolve` turns (number, class name) of a reference into what stands for it here.

    Raises:
        NotALiteral: anything that `encode` would not have written.
    """
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        return [decode(item, resolve) for item in data]
    try:
        return _decode_tagged(data["t"], data["v"], data.get("type", "object"), resolve)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotALiteral(f"malformed value: {error}") from error


def _decode_tagged(tag: str, body: Any, name: str, resolve: Resolve) -> Any:
    if tag == "tuple":
        return tuple(decode(item, resolve) for item in body)
    if tag == "dict":
        return {decode(key, resolve): decode(item, resolve) for key, item in body}
    if tag == "set":
        return {decode(item, resolve) for item in body}
    if tag == "frozenset":
        return frozenset(decode(item, resolve) for item in body)
    if tag == "int":
        return int(body, 16)
    if tag == "complex":
        return complex(*body)
    if tag == "bytes":
        return bytes.fromhex(body)
    if tag == "bytearray":
        return bytearray.fromhex(body)
    if tag == "type":
        return BUILTIN_TYPES[body]
    if tag == "ref":
        return resolve(int(body), str(name))
    raise NotALiteral(f"unknown kind of value {tag!r}")
