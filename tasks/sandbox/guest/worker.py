"""Holds the candidate: runs its program, then answers calls with plain literals.

Whatever the candidate does to this process, all that ever leaves it is taken as the value of a call.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO

from . import literals
from .confine import confine, hush_errors, take_pipes

OUT_OF_MEMORY = literals.dump({"raised": "MemoryError", "message": ""})


class Worker:
    """Answers `{"op", "target", "args", "kwargs"}` requests about one candidate module."""

    def __init__(self) -> None:
        self.module = ModuleType("candidate")
        self.kept: list[Any] = []
        sys.modules["candidate"] = self.module

    def load(self, code: str) -> None:
        exec(compile(code, "candidate.py", "exec"), self.module.__dict__)

    def request(self, message: dict[str, Any]) -> Any:
        target = message["target"]
        if isinstance(target, int):
            thing = self.kept[target]
        elif target in self.module.__dict__:
            thing = self.module.__dict__[target]
        else:
            raise NameError(f"name {target!r} is not defined")
        args = [literals.decode(arg, self.recall) for arg in message["args"]]
        kwargs = {key: literals.decode(value, self.recall) for key, value in message["kwargs"].items()}
        if message["op"] == "bool":
            return bool(thing)
        if message["op"] == "get":
            return getattr(thing, *args)
        if message["op"] == "set":
            return setattr(thing, *args)
        return thing(*args, **kwargs)

    def keep(self, thing: Any) -> int:
        self.kept.append(thing)
        return len(self.kept) - 1

    def recall(self, number: int, name: str) -> Any:
        return self.kept[number]


def attempt(action: Callable[[], Any], keep: literals.Refer) -> bytes:
    """The answer's line: the value, or what was raised."""
    try:
        try:
            return literals.dump({"value": literals.encode(action(), keep)})
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
    sink.write(b"ready\n")
    hush_errors()
    serve(source, sink)
