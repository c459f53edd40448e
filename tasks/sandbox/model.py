"""What goes in and comes out of the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from results.ground.errors import HarnessError

MEBIBYTE = 2**20


class Outcome(StrEnum):
    """What became of one program. Only `passed` counts as success; the last two say nothing about the candidate."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"
    ISOLATION_ERROR = "isolation_error"
    UNSCORABLE = "unscorable"

    @property
    def scored(self) -> bool:
        return self not in (Outcome.ISOLATION_ERROR, Outcome.UNSCORABLE)


class SandboxUnavailable(HarnessError, RuntimeError):
    """No level at or above the asked minimum works here. The message names the mend."""


class IsolationError(RuntimeError):
    """A sandbox did not start as promised; the candidate has not run."""


@dataclass(frozen=True)
class Program:
    """A candidate with its check.

    `code` is the only part that is not trusted. `setup` runs before the names in `functions` are bound to the
    candidate's (so prompt helpers come from the prompt), `tests` after it. `reference` is a complete solution that
    sets the time limit. `needed` are names that the tests take from `setup` but that the code must bind as well,
    because the published check runs in the program's own namespace.
    """

    id: str
    code: str
    tests: str
    functions: tuple[str, ...]
    setup: str = ""
    reference: str | None = None
    needed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """`seconds` is wall time from handing over the program, sandbox start not included; `used` the part of it that
    counts (see `tasks.sandbox.patience`)."""

    outcome: Outcome
    detail: str
    seconds: float
    level: str
    used: float = 0.0


@dataclass(frozen=True)
class Probe:
    """Whether a level works here; `reason` says what it promises, or in one sentence how to get it."""

    ok: bool
    reason: str


@dataclass(frozen=True)
class Limits:
    """Per program, in bytes and seconds.

    The time limit is `factor` times the reference solution's time, within `floor` and `ceiling`. It is on processor
    time; wall time without waiting for a processor may be three times as long.
    """

    memory: int = 1024 * MEBIBYTE
    file: int = MEBIBYTE
    answer: int = 8 * MEBIBYTE
    floor: float = 3.0
    factor: float = 10.0
    ceiling: float = 60.0
    startup: float = 60.0
