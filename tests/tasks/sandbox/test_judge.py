"""The check, with the candidate's process played by a function."""

from __future__ import annotations

import io
import json
from typing import Any

from tasks.sandbox.guest import literals
from tasks.sandbox.guest.judge import Candidate, check, printable
from tasks.sandbox.guest.worker import Worker, attempt


class Pipe(Candidate):
    """Judge and worker in one process; every message goes through its JSON form."""

    def __init__(self, code: str) -> None:
        super().__init__(io.BytesIO(), io.BytesIO())
        self.worker = Worker()
        self.code = code
        self.asked: list[dict[str, Any]] = []

    def exchange(self, request: dict[str, Any] | None) -> bytes:
        if request is None:
            return attempt(lambda: self.worker.load(self.code), self.worker.keep)
        self.asked.append(request)
        sent = json.loads(literals.dump(request))
        return attempt(lambda: self.worker.request(sent), self.worker.keep)


def outcome(code: str, tests: str, functions: list[str], setup: str = "") -> tuple[str, str]:
    return check({"setup": setup, "tests": tests, "functions": functions}, Pipe(code).ask)


def test_passes_and_fails() -> None:
    add = "def add(a, b): return a + b"
    assert outcome(add, "assert add(1, 2) == 3", ["add"]) == ("passed", "")
    assert outcome(add, "assert add(1, b=2) == 3", ["add"]) == ("passed", "")
    assert outcome(add, "x = 1\nassert add(1, 2) == 4", ["add"]) == (
        "failed",
        "assert add(1, 2) == 4: AssertionError",
    )


def test_helpers_come_from_the_trusted_set_up() -> None:
    setup = "def helper(x): return x + 1\ndef solve(x): pass"
    code = "def helper(x): return 0\ndef solve(x): return 0"
    assert outcome(code, "assert helper(solve(1)) == 1", ["solve"], setup) == ("passed", "")
    assert outcome(code, "assert helper(1) == solve(1)", ["solve"], setup)[0] == "failed"


def test_objects_of_the_candidate_can_be_built_and_passed_back() -> None:
    code = """
class Node:
    def __init__(self, value):
        self.value, self.left, self.right = value, None, None

def depth(node):
    return 0 if node is None else 1 + max(depth(node.left), depth(node.right))
"""
    tests = "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)\nassert depth(root) == 3"
    assert outcome(code, tests, ["Node", "depth"]) == ("passed", "")


def test_objects_of_the_candidate_cannot_be_compared() -> None:
    code = "class A:\n    def __eq__(self, other): return True\ndef f(): return A()\ndef g(): return [A()]"
    for test in ("f() == 1", "1 == f()", "f() != 1", "f() < 1", "g() == [1]", "f() in [1]", "{f()} == {1}"):
        assert outcome(code, f"assert {test}", ["f", "g"]) == (
            "failed",
            "the answer is a A, not a plain literal",
        )


def test_truth_of_an_object_is_asked_of_the_candidate() -> None:
    code = "import re\ndef f(text): return re.match('a', text)"
    assert outcome(code, "assert f('a')\nassert not f('b')", ["f"]) == ("passed", "")


def test_what_the_candidate_raises_ends_the_check() -> None:
    tests = "try:\n    f()\nexcept BaseException:\n    pass"
    assert outcome("def f(): raise StopIteration", "assert all(map(lambda x: f(), [1]))", ["f"])[0] == "failed"
    assert outcome("def f(): raise SystemExit", "assert f() == 1", ["f"]) == ("failed", "raised SystemExit: ")
    assert outcome("def f(): raise KeyError", tests.replace("BaseException", "Exception"), ["f"])[0] == "failed"
    assert outcome("", "assert f() == 1", ["f"]) == ("failed", "raised NameError: name 'f' is not defined")


def test_broken_checks_are_unscorable() -> None:
    assert outcome("", "", [], setup="1 / 0")[0] == "unscorable"
    assert outcome("", "def", [])[0] == "unscorable"
    code = "def f(x): return x"
    assert outcome(code, "assert f(lambda: 1)", ["f"]) == (
        "unscorable",
        "the check passes a function, which cannot cross the pipe",
    )


def test_arguments_are_copies() -> None:
    code = "def f(items):\n    items.clear()\n    return 1"
    assert outcome(code, "x = [1]\nassert f(x) == 1\nassert x == [1]", ["f"]) == ("passed", "")


def test_details_have_no_control_characters() -> None:
    assert printable("a\x1b[2Jb\nc") == "a [2Jb c"
    assert len(printable("x" * 10_000)) == 300
