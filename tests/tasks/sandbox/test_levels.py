"""Which level is taken, what is refused, and that a level proves itself before it counts."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tasks.sandbox import (
    NAMES,
    Outcome,
    Probe,
    Program,
    SandboxUnavailable,
    doctor,
    evaluate_programs,
    strongest,
)
from tasks.sandbox import levels as levels_module
from tasks.sandbox.bubblewrap import BubblewrapLevel
from tasks.sandbox.interpreter import Role
from tasks.sandbox.level import Command, Level
from tasks.sandbox.levels import named, probe
from tasks.sandbox.model import Limits

ADD = Program("add", "def add(a, b):\n    return a + b", "assert add(1, 2) == 3", ("add",))


def test_order_is_strongest_first() -> None:
    assert NAMES == ("gvisor", "bubblewrap", "landlock", "process")


def test_each_level_works_and_says_so(level: Level) -> None:
    assert probe(level.name) == Probe(True, level.promise)
    verdict = evaluate_programs([ADD], level=level)[0]
    assert (verdict.outcome, verdict.level) == (Outcome.PASSED, level.name)
    assert 0 < verdict.seconds < 10


def test_doctor_has_a_row_for_each() -> None:
    rows = doctor()
    assert [row[0] for row in rows] == list(NAMES)
    assert all(isinstance(ok, bool) and reason for _, ok, reason in rows)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> dict[str, Probe]:
    """A machine on which a level works only if the test says so."""
    answers: dict[str, Probe] = {}

    def answer(name: str) -> Probe:
        return answers.get(name, Probe(False, f"{name} is not installed: `apt-get install {name}`."))

    monkeypatch.setattr(levels_module, "probe", answer)
    return answers


def test_the_strongest_that_works_is_taken(only: dict[str, Probe]) -> None:
    only["bubblewrap"] = only["landlock"] = only["process"] = Probe(True, "")
    assert strongest("process").name == "bubblewrap"
    only["gvisor"] = Probe(True, "")
    assert strongest("bubblewrap").name == "gvisor"


def test_below_the_minimum_nothing_runs(only: dict[str, Probe]) -> None:
    only["landlock"] = only["process"] = Probe(True, "")
    with pytest.raises(SandboxUnavailable, match=re.escape("`apt-get install bubblewrap`")):
        strongest()
    assert strongest("landlock").name == "landlock"


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown isolation level 'docker'"):
        strongest("docker")


class Fake(Level):
    """Pretends: its command is given, and so is what it claims to refuse."""

    name: ClassVar[str] = "fake"
    promise: ClassVar[str] = "none"
    refused: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv

    def missing(self) -> str | None:
        return None

    def command(self, role: Role, limits: Limits) -> Command:
        return Command(self.argv)


@pytest.mark.parametrize(
    ("argv", "detail"),
    [
        (
            ["/bin/sh", "-c", "echo 'bwrap: no permissions' >&2; exit 1"],
            "fake did not start: bwrap: no permissions",
        ),
        (["/bin/sh", "-c", 'echo \'={"outcome":"passed","detail":""}\''], "fake did not start"),
        (["/no/such/program"], "fake cannot be started"),
        (["/bin/sleep", "60"], "fake did not start within the limit of 1 s"),
    ],
)
def test_failure_to_isolate_is_no_failed_sample(argv: list[str], detail: str) -> None:
    verdict = evaluate_programs([ADD], level=Fake(argv), limits=Limits(startup=1))[0]
    assert verdict.outcome is Outcome.ISOLATION_ERROR
    assert not verdict.outcome.scored
    assert verdict.detail.startswith(detail)


class Moving(Fake):
    """Its first commands cover a file that is gone by the time they start, as an installation nearby can do it."""

    def __init__(self, stale: int) -> None:
        super().__init__([])
        self.stale = stale
        self.made = 0

    def command(self, role: Role, limits: Limits) -> Command:
        self.made += role == "worker"
        if self.made <= self.stale:
            return Command(["/bin/sh", "-c", f"echo 'no such file as token-{self.made}' >&2; exit 1"])
        return named("process").command(role, limits)


@pytest.mark.parametrize(("stale", "outcome", "made"), [(0, "passed", 1), (2, "passed", 3), (9, "isolation_error", 3)])
def test_what_moved_beside_the_interpreter_is_looked_at_again(stale: int, outcome: str, made: int) -> None:
    level = Moving(stale)
    verdict = evaluate_programs([ADD], level=level)[0]
    assert (verdict.outcome, level.made) == (Outcome(outcome), made), verdict


def test_a_file_that_came_back_is_no_reason_to_give_up(tmp_path: Path) -> None:
    class Flickering(Fake):
        """Its command is the same each time, and starts the second time only."""

        def command(self, role: Role, limits: Limits) -> Command:
            own = named("process").command(role, limits)
            there = f"test -e {tmp_path / role} || {{ touch {tmp_path / role}; echo gone >&2; exit 1; }}"
            return replace(own, argv=["/bin/sh", "-c", f'{there}; exec "$@"', "sh", *own.argv])

    assert evaluate_programs([ADD], level=Flickering([]))[0].outcome is Outcome.PASSED


def test_a_level_that_starts_but_does_not_isolate_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    process = named("process")

    class Hollow(BubblewrapLevel):
        name = "hollow"

        def missing(self) -> str | None:
            return None

        def config(self, role: Role, limits: Limits) -> dict[str, object]:
            return process.config(role, limits)

        def command(self, role: Role, limits: Limits) -> Command:
            return process.command(role, limits)

    monkeypatch.setattr(levels_module, "LEVELS", (Hollow(),))
    answer = levels_module.probe.__wrapped__("hollow")
    assert not answer.ok
    found = answer.reason.removeprefix("it does not refuse ").split(", ")
    assert {"exec", "files", "fork", "network", "signal", "write"} <= set(found)
    assert not {"memory", "environment"} & set(found)


def test_from_within_an_event_loop() -> None:
    async def notebook() -> Outcome:
        return evaluate_programs([ADD], level=named("process"))[0].outcome

    assert asyncio.run(notebook()) is Outcome.PASSED


def test_no_programs_need_no_sandbox(only: dict[str, Probe]) -> None:
    assert evaluate_programs([], named("gvisor")) == []
