"""Hostile programs, one file each, against every level.

`escape`: `attack()` returns something true if it got out. `forge`: a wrong `add` that wants to be judged right.
`exhaust`: uses up what it can, and must end with the outcome that its `expect` line names.

An attack that could not succeed anywhere would prove nothing. So `works at: bare process` lines name escapes that do
succeed where nothing isolates, `fools:` lines the forgeries that a check in the candidate's process, or one that
trusts the exit status, accepts, and `fools without a nonce:` and `fools when inspected:` lines those that get through a
weaker harness; all are tested too.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.sandbox import Limits, Outcome, Program, Verdict, evaluate_programs
from tasks.sandbox.level import Level
from tasks.sandbox.levels import named
from tasks.sandbox.process import ProcessLevel

FOLDER = Path(__file__).parent / "attacks"
ADD_TESTS = "assert add(1, 2) == 3\nassert add(-1, 5) == 4\nassert add('a', 'b') == 'ab'\n"


@dataclass(frozen=True)
class Attack:
    name: str
    code: str

    def line(self, label: str) -> str:
        found = re.search(rf"^# {label}: (.+)$", self.code, re.MULTILINE)
        return found[1] if found else ""


class Bare(ProcessLevel):
    """A fresh process that keeps every power of its user, beside a harness that may be inspected."""

    name = "bare"
    shares_processes = False


def attacks(kind: str) -> list[Attack]:
    return [Attack(path.stem, path.read_text()) for path in sorted((FOLDER / kind).glob("*.py"))]


def cases(kind: str, label: str = "") -> list[object]:
    return [pytest.param(attack, id=attack.name) for attack in attacks(kind) if not label or attack.line(label)]


@functools.cache
def verdicts(kind: str, level: str) -> dict[str, Verdict]:
    """All attacks of a kind at one level, run together."""
    tests, function = ("assert attack()", "attack") if kind == "escape" else (ADD_TESTS, "add")
    chosen = attacks(kind)
    if level == "bare":
        chosen = [attack for attack in chosen if attack.line("works at")]  # the others would do harm there
    programs = [Program(attack.name, attack.code, tests, (function,)) for attack in chosen]
    limits = Limits(floor=2.0, memory=256 * 2**20) if kind == "exhaust" else Limits(floor=20.0)
    found = evaluate_programs(programs, level=Bare() if level == "bare" else named(level), limits=limits, workers=4)
    return {program.id: verdict for program, verdict in zip(programs, found, strict=True)}


def test_there_are_many_attacks_of_both_kinds() -> None:
    assert len(attacks("escape")) >= 80
    assert len(attacks("forge")) >= 70


@pytest.mark.parametrize("attack", cases("escape"))
def test_no_escape(attack: Attack, level: Level) -> None:
    if level.name == "process":
        pytest.skip("level process promises protection against accidents only")
    if level.name in attack.line("open at").split():
        pytest.skip(f"level {level.name} says that it leaves this open")
    verdict = verdicts("escape", level.name)[attack.name]
    assert verdict.outcome in (Outcome.FAILED, Outcome.CRASHED), verdict
    assert "ended its process" not in verdict.detail, verdict


@pytest.mark.parametrize("attack", cases("forge"))
def test_no_forged_verdict(attack: Attack, level: Level) -> None:
    verdict = verdicts("forge", level.name)[attack.name]
    assert verdict.outcome is not Outcome.PASSED, verdict
    assert verdict.outcome.scored, verdict


@pytest.mark.parametrize("attack", cases("exhaust"))
def test_exhaustion_ends_as_expected(attack: Attack, level: Level) -> None:
    verdict = verdicts("exhaust", level.name)[attack.name]
    assert verdict.outcome in attack.line("expect").split(), verdict


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="the attacks are written for Linux")
@pytest.mark.parametrize("attack", cases("escape", "works at"))
def test_escapes_are_real(attack: Attack) -> None:
    if attack.line("works at").endswith("(root)") and os.geteuid() != 0:
        pytest.skip("works for root only")
    verdict = verdicts("escape", "bare")[attack.name]
    assert verdict.outcome is Outcome.PASSED, verdict


@pytest.mark.parametrize("attack", cases("forge", "fools"))
def test_forgeries_are_real(attack: Attack) -> None:
    program = f"{attack.code}\n{ADD_TESTS}"
    naive = subprocess.run([sys.executable, "-I", "-c", program], check=False, capture_output=True)
    assert naive.returncode == 0, naive.stderr.decode()


def on_a_weak_level(attack: Attack) -> Verdict:
    program = Program(attack.name, attack.code, ADD_TESTS, ("add",))
    return evaluate_programs([program], level=Bare(), limits=Limits(floor=20.0), workers=1)[0]


def trusting(line: bytes, nonce: bytes) -> tuple[Outcome, str]:
    """Reads a verdict as if it needed no nonce."""
    decision = json.loads(line[line.index(b"{") :])
    return Outcome(decision["outcome"]), decision["detail"]


def alone(attack: Attack, code: str) -> list[str]:
    """Lines that code with an `attack` prints in a process of its own: attacks on an open harness write into every pipe
    that it reads, and this one may be a worker that its tests reach through such a pipe."""
    lines = (
        f"import sys; sys.path[:0] = {[str(FOLDER.parents[3]), str(FOLDER.parent)]!r}\n"
        "from test_attacks import attacks, on_a_weak_level, trusting\n"
        f"attack = next(one for one in attacks('forge') if one.name == {attack.name!r})\n{code}"
    )
    run = [sys.executable, "-c", lines]
    return subprocess.run(run, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.splitlines()


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="the attacks are written for Linux")
@pytest.mark.parametrize("attack", cases("forge", "fools without a nonce"))
def test_verdicts_need_their_nonce(attack: Attack) -> None:
    code = (
        "from tasks.sandbox import session\n"
        "print(on_a_weak_level(attack).detail)\n"
        "session._authentic = trusting\n"
        "print(on_a_weak_level(attack).outcome)"
    )
    assert alone(attack, code) == ["a verdict that is not the judge's was written into the judge's pipe", "passed"]


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="works for root only")
@pytest.mark.parametrize("attack", cases("forge", "fools when inspected"))
def test_the_harness_must_not_be_inspected(attack: Attack) -> None:
    assert alone(attack, "print(on_a_weak_level(attack).outcome)") == ["passed"]
