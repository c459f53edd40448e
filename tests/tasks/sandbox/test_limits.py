"""The time limit follows the reference solution; what is left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import psutil
import pytest

from tasks.sandbox import Limits, Outcome, Program, evaluate_programs
from tasks.sandbox.levels import named
from tasks.sandbox.patience import Meter, processor_seconds, within

SLOW = """
import time

def f():
    begin = time.process_time()
    while time.process_time() - begin < {seconds}:
        pass
    return 1
"""
PROCESS = named("process")


def slow(seconds: float, reference: float | None) -> Program:
    code = None if reference is None else SLOW.format(seconds=reference)
    return Program("slow", SLOW.format(seconds=seconds), "assert f() == 1", ("f",), reference=code)


def outcome(program: Program, limits: Limits) -> Outcome:
    return evaluate_programs([program], level=PROCESS, limits=limits)[0].outcome


def test_a_slow_reference_gives_more_time() -> None:
    limits = Limits(floor=0.6, factor=4)
    assert outcome(slow(1.0, None), limits) is Outcome.TIMEOUT
    assert outcome(slow(1.0, 0.0), limits) is Outcome.TIMEOUT
    assert outcome(slow(1.0, 0.8), limits) is Outcome.PASSED


def test_the_ceiling_holds() -> None:
    assert outcome(slow(2.0, 0.5), Limits(floor=0.2, factor=10, ceiling=1.0)) is Outcome.TIMEOUT


def test_a_failing_reference_gives_no_time() -> None:
    program = Program("x", SLOW.format(seconds=2), "assert f() == 1", ("f",), reference="def f(): return 2")
    begin = time.monotonic()
    assert outcome(program, Limits(floor=0.3)) is Outcome.TIMEOUT
    assert time.monotonic() - begin < 60


def test_waiting_is_no_way_out() -> None:
    program = Program("waits", "import time\ndef f(): time.sleep(1000)", "f()", ("f",))
    assert outcome(program, Limits(floor=0.3)) is Outcome.TIMEOUT


def test_wall_time_alone_ends_nothing_early() -> None:
    async def work() -> str:
        await asyncio.sleep(0.5)
        return "done"

    async def idle(seconds: float) -> str:
        return await within(work(), seconds, Meter([]))

    assert asyncio.run(idle(0.3)) == "done"
    with pytest.raises(TimeoutError):
        asyncio.run(idle(0.1))


def test_a_result_that_comes_too_late_is_none() -> None:
    """Although the clocks are looked at only now and then."""

    class Late(Meter):
        def read(self) -> tuple[float, float]:
            return 2.0, 2.0

    async def work() -> str:
        return "done"

    async def late() -> str:
        return await within(work(), 1.0, Late([]))

    with pytest.raises(TimeoutError):
        asyncio.run(late())


@pytest.mark.system
@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="the kernel does not count waiting")
def test_a_crowded_processor_gives_the_same_verdict() -> None:
    """Nine others on one processor: wall time is beyond all patience, the program's own time is not."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    busy = [sys.executable, "-c", "while True: pass"]
    crowd = [subprocess.Popen(busy, start_new_session=True) for _ in range(9)]  # shares are dealt out to sessions
    try:
        limits = Limits(floor=0.6)
        verdict = evaluate_programs([slow(0.35, None)], level=PROCESS, limits=limits)[0]
        assert verdict.outcome is Outcome.PASSED, verdict
        assert verdict.seconds > 3 * limits.floor > 3 * verdict.used
        assert outcome(slow(5.0, None), limits) is Outcome.TIMEOUT
    finally:
        for process in crowd:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, allowed)


def test_processor_time_counts_descendants() -> None:
    burn = "import time\nwhile time.process_time() < 0.4: pass\nprint('burnt', flush=True)\ninput()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "burnt\n"
        assert processor_seconds(process.pid) >= 0.3
        process.communicate("\n")
    assert processor_seconds(process.pid) == 0


def test_many_programs_keep_their_order() -> None:
    programs = [
        Program(str(number), f"def f(): return {number}", f"assert f() == {number - number % 2}", ("f",))
        for number in range(10)
    ]
    verdicts = evaluate_programs(programs, level=PROCESS, workers=3)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASSED, Outcome.FAILED] * 5


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors through /proc")
def test_nothing_is_left_behind() -> None:
    programs = [slow(60, None), Program("crash", "import os\nos._exit(3)", "f()", ("f",))]
    before = len(os.listdir("/proc/self/fd"))
    children = set(psutil.Process().children(recursive=True))
    evaluate_programs(programs * 3, level=PROCESS, limits=Limits(floor=0.3))
    assert set(psutil.Process().children(recursive=True)) <= children
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_secret_of_the_parent_does_not_reach_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    program = Program(
        "environment", "import os\ndef f(): return dict(os.environ)", "assert 'API_KEY' not in f()", ("f",)
    )
    assert outcome(program, Limits()) is Outcome.PASSED
