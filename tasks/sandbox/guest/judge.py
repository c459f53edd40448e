"""Runs the trusted check in its own process, against stand-ins for what the candidate defines.

The check sees values rebuilt from literals. An object of the candidate's own class arrives as a `Remote`, which can
be called, passed back and given attributes, but never compared: so no equality that the candidate wrote decides.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

from . import literals
from .confine import confine, hush_errors, take_pipes

Ask = Callable[[dict[str, Any] | None], Any]

DETAIL_LENGTH = 300


class Stop(BaseException):
    """Ends the check with an outcome. Derives from BaseException, so that no check catches it."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Remote:
    """Stands for a name or an object of the candidate's process."""

    def __init__(self, target: str | int, label: str, ask: Ask) -> None:
        object.__setattr__(self, "_remote", (target, label, ask))

    def _request(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target, _, ask = object.__getattribute__(self, "_remote")
        encoded = {
            "op": op,
            "target": target,
            "args": [literals.encode(arg, number_of) for arg in args],
            "kwargs": {key: literals.encode(value, number_of) for key, value in kwargs.items()},
        }
        return ask(encoded)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._request("call", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._request("get", (name,), {})

    def __setattr__(self, name: str, value: Any) -> None:
        self._request("set", (name, value), {})

    def __bool__(self) -> bool:
        """Asking the object itself gives the candidate no more than answering a bool would have."""
        truth = self._request("bool", (), {})
        if truth is True or truth is False:
            return truth
        raise Stop("failed", "the answer has no truth value")

    def _refuse(self, *args: Any) -> NoReturn:
        label = object.__getattribute__(self, "_remote")[1]
        raise Stop("failed", f"the answer is a {label}, not a plain literal")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse


def number_of(thing: Any) -> int:
    """The reference behind an argument.

    Raises:
        Stop: the check passes something that cannot cross (a function, an object of its own).
    """
    if isinstance(thing, Remote):
        target = object.__getattribute__(thing, "_remote")[0]
        if isinstance(target, int):
            return target
    raise Stop("unscorable", f"the check passes a {type(thing).__name__}, which cannot cross the pipe")


class Candidate:
    """Asks the candidate's process through the pipe and rebuilds its answers."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.source = source
        self.sink = sink

    def ask(self, request: dict[str, Any] | None) -> Any:
        """Value of a request; None only awaits the answer to loading the program.

        Raises:
            Stop: the candidate raised, or its answer is not ours.
        """
        if request is not None:
            self.send(b"?" + literals.dump(request))
        try:
            answer = json.loads(self.source.readline())
            if "raised" not in answer:
                return literals.decode(answer["value"], self.stand_in)
            raised = f"{answer['raised']}: {answer.get('message', '')}"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Stop("failed", f"malformed answer: {error}") from error
        raise Stop("memory" if answer["raised"] == "MemoryError" else "failed", f"raised {raised}")

    def stand_in(self, number: int, name: str) -> Remote:
        return Remote(number, name, self.ask)

    def send(self, line: bytes) -> None:
        while line:
            line = line[self.sink.write(line) :]


def check(task: dict[str, Any], ask: Ask) -> tuple[str, str]:
    """Outcome and detail of `task`: `setup` and `tests` are trusted code, `functions` the candidate's names."""
    namespace: dict[str, Any] = {"__name__": "check"}
    try:
        exec(compile(task["setup"], "setup.py", "exec"), namespace)
        tests = compile(task["tests"], "tests.py", "exec")
    except Exception as error:
        return "unscorable", f"the check's own set-up fails: {type(error).__name__}: {error}"
    try:
        ask(None)
        namespace.update({name: Remote(name, name, ask) for name in task["functions"]})
        exec(tests, namespace)
    except Stop as stop:
        return stop.outcome, stop.detail
    except Exception as error:
        return "failed", describe(error, error.__traceback__, task["tests"])
    return "passed", ""


def describe(error: Exception, trace: TracebackType | None, tests: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(trace) if frame.filename == "tests.py"]
    place = tests.splitlines()[lines[-1] - 1].strip() if lines and lines[-1] else "the check"
    return f"{place}: {type(error).__name__} {error}".rstrip()


def printable(text: str) -> str:
    """One short line without control characters: parts of it are the candidate's words."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:DETAIL_LENGTH])


def main() -> None:
    source, sink = take_pipes()
    confine(json.loads(sys.argv[2]))
    candidate = Candidate(source, sink)
    candidate.send(b"ready\n")
    hush_errors()
    outcome, detail = check(json.loads(source.readline()), candidate.ask)
    candidate.send(b"=" + literals.dump({"outcome": outcome, "detail": printable(detail)}))
