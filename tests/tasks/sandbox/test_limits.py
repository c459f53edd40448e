"""The time limit follows the reference solution; what is left behind."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from tasks.sandbox import Limits, Outcome, Program, evaluate_programs
from tasks.sandbox.levels import named

SLOW = "import time\ndef f():\n    time.sleep({seconds})\n    return 1"
PROCESS = named("process")


def sleeper(seconds: float, reference: float | None) -> Program:
    code = None if reference is None else SLOW.format(seconds=reference)
    return Program("sleeper", SLOW.format(seconds=seconds), "assert f() == 1", ("f",), reference=code)


def outcome(program: Program, limits: Limits) -> Outcome:
    return evaluate_programs([program], level=PROCESS, limits=limits)[0].outcome


def test_a_slow_reference_gives_more_time() -> None:
    limits = Limits(floor=0.5, factor=4)
    assert outcome(sleeper(1.0, None), limits) is Outcome.TIMEOUT
    assert outcome(sleeper(1.0, 0.0), limits) is Outcome.TIMEOUT
    assert outcome(sleeper(1.0, 0.8), limits) is Outcome.PASSED


def test_the_ceiling_holds() -> None:
    assert outcome(sleeper(2.0, 0.5), Limits(floor=0.2, factor=10, ceiling=1.0)) is Outcome.TIMEOUT


def test_a_failing_reference_gives_no_time() -> None:
    program = Program("x", SLOW.format(seconds=2), "assert f() == 1", ("f",), reference="def f(): return 2")
    begin = time.monotonic()
    assert outcome(program, Limits(floor=0.3)) is Outcome.TIMEOUT
    assert time.monotonic() - begin < 5


def test_many_programs_keep_their_order() -> None:
    programs = [
        Program(str(number), f"def f(): return {number}", f"assert f() == {number - number % 2}", ("f",))
        for number in range(10)
    ]
    verdicts = evaluate_programs(programs, level=PROCESS, workers=3)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASSED, Outcome.FAILED] * 5


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors through /proc")
def test_nothing_is_left_behind() -> None:
    programs = [sleeper(60, None), Program("crash", "import os\nos._exit(3)", "f()", ("f",))]
    before = len(os.listdir("/proc/self/fd"))
    evaluate_programs(programs * 3, level=PROCESS, limits=Limits(floor=0.3))
    assert psutil.Process().children(recursive=True) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_secret_of_the_parent_does_not_reach_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    program = Program(
        "environment", "import os\ndef f(): return dict(os.environ)", "assert 'API_KEY' not in f()", ("f",)
    )
    assert outcome(program, Limits()) is Outcome.PASSED
