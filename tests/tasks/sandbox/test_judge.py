"""The check, with the candidate's process played by a function."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

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


def passes(code: str, tests: str, functions: str = "f") -> bool:
    return outcome(code, tests, functions.split()) == ("passed", "")


@pytest.mark.parametrize(
    ("answer", "test"),
    [
        ("(x for x in (1, 2))", "list(f()) == [1, 2]"),
        ("iter([1, 2])", "sorted(f()) == [1, 2]"),
        ("map(str, (1, 2))", "''.join(f()) == '12'"),
        ("(x for x in (1, 2))", "f() != [1, 2]"),
        ("range(3)", "f() == range(0, 3) and f()[-1] == 2 and f() != [0, 1, 2]"),
        ("deque([1, 2], 3)", "f() == deque([1, 2]) and f().maxlen == 3"),
        ("Fraction(1, 2)", "f() == 0.5 and abs(f() - 0.5) < 1e-9"),
        ("Decimal('0.5')", "f() == 0.5 and f() + 1 == Decimal('1.5')"),
        ("UserList([1, 2])", "f() == [1, 2]"),
        ("UserString('ab')", "f() == 'ab'"),
        ("{1: 2}.keys()", "f() == {1}"),
        ("{1: 2}.items()", "f() == {(1, 2)}"),
        ("{1: 2}.values()", "list(f()) == [2] and len(f()) == 1"),
        ("OrderedDict([(2, 1), (1, 2)])", "f() == {1: 2, 2: 1} and f() != OrderedDict([(1, 2), (2, 1)])"),
        ("Counter('aab')", "f() == {'a': 2, 'b': 1} and f()['z'] == 0"),
        ("defaultdict(list)", "f()[1] == []"),
        ("ChainMap({1: 2}, {3: 4})", "f() == {1: 2, 3: 4}"),
        ("date(2000, 2, 29)", "f() == date(2000, 2, 29) and f().year == 2000"),
        ("memoryview(b'ab')", "f() == b'ab'"),
        ("[math.nan]", "f() == [math.nan]"),
        ("[float('nan')]", "f() != [math.nan]"),
        ("Sequence()", "len(f()) == 2 and f()[0] == 7 and list(f()) == [7, 8] and 8 in f() and sum(f()) == 15"),
        ("Sequence()", "list(reversed(f())) == [8, 7] and max(f()) == 8 and dict(zip(f(), 'ab')) == {7: 'a', 8: 'b'}"),
        ("Number()", "int(f()) == 3 and float(f()) == 3.5 and math.floor(f()) == 3 and str(f()) == 'three'"),
    ],
)
def test_answers_of_the_library_s_types_are_what_they_are(answer: str, test: str) -> None:
    library = (
        "import math\nfrom collections import ChainMap, Counter, OrderedDict, UserList, UserString\n"
        "from collections import defaultdict, deque\n"
        "from datetime import date\nfrom decimal import Decimal\nfrom fractions import Fraction\n"
    )
    code = f"""{library}
class Sequence:
    def __len__(self): return 2
    def __getitem__(self, index): return (7, 8)[index]

class Number:
    def __float__(self): return 3.5
    def __int__(self): return 3
    def __str__(self): return 'three'

def f():
    return {answer}
"""
    assert outcome(code, f"assert {test}", ["f"], setup=library) == ("passed", "")


def test_iteration_goes_on_where_it_stopped() -> None:
    code = "def f():\n    for x in range(5000):\n        yield x"
    tests = "g = f()\nassert (next(g), next(g)) == (0, 1)\nassert list(g) == list(range(2, 5000))\nassert list(g) == []"
    assert passes(code, tests)


def test_what_an_iterator_raises_comes_after_its_items() -> None:
    code = "def f():\n    yield from range(100)\n    raise KeyError('end')"
    assert outcome(code, "g = f()\nassert [next(g) for _ in range(100)][99] == 99\nnext(g)", ["f"]) == (
        "failed",
        "raised KeyError: 'end'",
    )


def test_what_an_object_lacks_is_an_error_of_the_check() -> None:
    code = "class A: pass\ndef f(): return A()"
    assert passes(code, "assert not hasattr(f(), 'x')")
    for test in ("len(f())", "f().x", "list(f())"):
        assert outcome(code, test, ["f"])[1].startswith(f"{test}: Lacking 'A' object has no ")
    assert passes(code, "try:\n    len(f())\nexcept TypeError:\n    pass")


def test_objects_that_compare_by_identity_are_themselves() -> None:
    code = "class A: pass\na = A()\ndef f(): return a\ndef g(): return A()"
    assert passes(code, "assert f() == f() and f() is f() and f() != g() and f() != 1 and len({f(), g()}) == 2", "f g")


def test_imports_from_the_future_stay_where_they_are() -> None:
    assert outcome("def f(x: Missing): return 1", "assert f(1) == 1", ["f"])[1] == (
        "raised NameError: name 'Missing' is not defined"
    )
    future = "from __future__ import annotations\ndef f(x: Missing): return 1"
    assert passes(future, "assert f(1) == 1")
    assert outcome("def f(): return 1", "def g(x: Missing): pass", ["f"])[1].startswith("def g")


def test_a_name_that_only_the_check_imports_is_missing() -> None:
    task = {"setup": "import sys", "tests": "assert f() == sys.maxsize", "functions": ["f"], "needed": ["sys"]}
    assert check(task, Pipe("import sys\ndef f(): return sys.maxsize").ask) == ("passed", "")
    assert check(task, Pipe("def f(): return 2**63 - 1").ask) == (
        "failed",
        "the check uses 'sys', which the program does not define",
    )


def test_a_builtin_stands_for_a_function_that_the_program_lacks() -> None:
    assert passes("", "assert sum([1, 2]) == 3", "sum")


def test_what_is_nested_as_deep_as_it_may_be_arrives() -> None:
    code = "def f():\n    x = []\n    for _ in range(800):\n        x = [x]\n    return x"
    tests = "x, depth = f(), 0\nwhile x:\n    x, depth = x[0], depth + 1\nassert depth == 800"
    assert passes(code, tests)


@pytest.mark.parametrize(
    "verdict", ["", "{", "[]", "3", '{"outcome": "won", "detail": ""}', '{"outcome": "passed"}', "[" * 9999]
)
def test_a_signed_verdict_that_is_cut_off_is_no_verdict(verdict: str) -> None:
    from tasks.sandbox.model import Outcome
    from tasks.sandbox.session import _authentic

    assert _authentic(b"nonce" + verdict.encode(), b"nonce") == (Outcome.CRASHED, "the judge's verdict is cut off")
