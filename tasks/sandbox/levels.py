"""The levels, strongest first, and the choice among them."""

from __future__ import annotations

from functools import cache

from results.ground.names import unknown
from tasks.sandbox import canary
from tasks.sandbox.bubblewrap import BubblewrapLevel
from tasks.sandbox.evaluate import evaluate_programs
from tasks.sandbox.gvisor import GvisorLevel
from tasks.sandbox.landlock import LandlockLevel
from tasks.sandbox.level import Level
from tasks.sandbox.model import Outcome, Probe, SandboxUnavailable
from tasks.sandbox.process import ProcessLevel

LEVELS: tuple[Level, ...] = (GvisorLevel(), BubblewrapLevel(), LandlockLevel(), ProcessLevel())
NAMES: tuple[str, ...] = tuple(level.name for level in LEVELS)


def named(name: str) -> Level:
    """
    Raises:
        UnknownName: no level has this name.
    """
    for level in LEVELS:
        if level.name == name:
            return level
    raise unknown("isolation level", name, NAMES)


@cache
def probe(name: str) -> Probe:
    """Start the level and let a canary try what it must refuse. Done once per process."""
    level = named(name)
    if (reason := level.missing()) is not None:
        return Probe(False, reason)
    verdict = evaluate_programs([canary.program(level.refused)], level=level)[0]
    if verdict.outcome is Outcome.PASSED:
        return Probe(True, level.promise)
    return Probe(False, canary.reason(verdict.detail))


def strongest(minimum: str = "bubblewrap") -> Level:
    """The strongest level that works here.

    Raises:
        SandboxUnavailable: none at or above `minimum` does; the message says what to install.
    """
    acceptable = LEVELS[: NAMES.index(named(minimum).name) + 1]
    for level in acceptable:
        if probe(level.name).ok:
            return level
    raise SandboxUnavailable(f"Generated code needs isolation level {minimum!r} or stronger: {probe(minimum).reason}")


def doctor() -> list[tuple[str, bool, str]]:
    """(level, whether it works, promise with versions of what keeps it, or mend) of every level, strongest first."""
    return [(name, probe(name).ok, _described(name, probe(name))) for name in NAMES]


def level_versions(name: str) -> dict[str, str]:
    """Versions of what a level isolates with, for the record; empty for a name that is no level's."""
    return next((level.versions() for level in LEVELS if level.name == name), {})


def _described(name: str, result: Probe) -> str:
    found = ", ".join(f"{part} {version}" for part, version in level_versions(name).items()) if result.ok else ""
    return f"{result.reason} ({found})" if found else result.reason
