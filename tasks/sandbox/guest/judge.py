"""Runs the trusted check in its own process, against stand-ins for what the candidate defines.

The check sees values rebuilt from literals. An object of the candidate's own class arrives as a `Remote`, which can
be called, iterated, passed back and given attributes, but no equality that the candidate wrote decides.
"""

from __future__ import annotations

import json
import sys
import traceback

from . import literals
from .confine import confine, hush_errors, take_pipes
from .remote import Lacking, Remote, Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, BinaryIO

    from .remote import Ask

DETAIL_LENGTH = 300


class Candidate:
    """Asks the candidate's process through the pipe and rebuilds its answers."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.source = source
        self.sink = sink
        self.remotes: dict[int, Remote] = {}

    def ask(self, request: dict[str, Any] | None) -> Any:
        """Value of a request; None only awaits the answer to loading the program.

        Raises:
            Stop: the candidate raised, or its answer is not ours.
            Lacking: the object has no such attribute or operation.
        """
        line = self.exchange(request)
        try:
            with literals.deep():
                answer = json.loads(line)
                lacks, raised = answer.get("lacks"), answer.get("raised")
                if lacks is None and raised is None:
                    return literals.decode(answer["value"], self.stand_in)
        except (AttributeError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Stop("failed", f"malformed answer: {error}") from error
        if raised is None:
            raise Lacking(str(lacks))
        detail = f"raised {raised}: {answer.get('message', '')}"
        raise Stop("memory" if raised == "MemoryError" else "failed", detail)

    def exchange(self, request: dict[str, Any] | None) -> bytes:
        """Send a request, if there is one, and await the line that answers it."""
        if request is not None:
            self.send(b"?" + literals.dump(request))
        return self.source.readline()

    def stand_in(self, number: int, name: str, identity: bool) -> Remote:
        """One object has one stand-in, so that identity and the place in an iteration are kept."""
        if number not in self.remotes:
            self.remotes[number] = Remote(number, name, self.ask, identity=identity)
        return self.remotes[number]

    def send(self, line: bytes) -> None:
        while line:
            line = line[self.sink.write(line) :]


def check(task: dict[str, Any], ask: Ask) -> tuple[str, str]:
    """Outcome and detail of `task`.

    `setup` and `tests` are trusted code, `functions` names of the candidate's that the tests use, `needed` names that
    the tests take from the set-up although the candidate's program has to bind them too.
    """
    namespace: dict[str, Any] = {"__name__": "check"}
    try:
        exec(compile(task["setup"], "setup.py", "exec", dont_inherit=True), namespace)
        tests = compile(task["tests"], "tests.py", "exec", dont_inherit=True)
    except Exception as error:
        return "unscorable", f"the check's own set-up fails: {type(error).__name__}: {error}"
    try:
        ask(None)
        for name in task.get("needed", ()):
            if ask({"op": "has", "target": name, "args": [], "kwargs": {}}) is not True:
                return "failed", f"the check uses {name!r}, which the program does not define"
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
    task = json.loads(source.readline())
    outcome, detail = check(task, candidate.ask)
    verdict = literals.dump({"outcome": outcome, "detail": printable(detail)})
    candidate.send(b"=" + task["nonce"].encode("ascii") + verdict)
