"""Time until the command line answers, against starting Python alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

from harness.bench.measure import Options, Row, by_turns
from results.ground.errors import HarnessError


def startup(options: Options) -> Iterator[Row]:
    """`harness list` for every kind of name; with `--run`, `harness report` on that run too."""
    commands = [(f"harness list {what}", ["list", what], 0.5) for what in ("methods", "tasks", "presets", "tables")]
    if options.run is not None:
        commands.append(("harness report", ["report", options.run], 5.0))
    for name, arguments, target in commands:
        if not options.wants(name):
            continue
        command = [sys.executable, "-m", "harness.cli", *arguments]
        memory = peak(command)  # files are read into memory once
        seconds, alone = by_turns(
            lambda command=command: answered(command),  # type: ignore[misc]
            lambda: answered([sys.executable, "-c", "pass"]),
            options,
        )
        yield Row(
            name=name,
            setting="a new process",
            peer="python -c pass",
            seconds=seconds,
            peer_seconds=alone,
            target=target,
            kind="seconds",
            memory=memory,
        )


def answered(command: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        HarnessError: it failed; its own sentence.
    """
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise HarnessError(done.stderr.strip().removeprefix("harness: "))


_WATCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def peak(command: Sequence[str]) -> float:
    """GiB that a command takes at most, started by a small process: a child's peak is never below its parent's size.

    Raises:
        HarnessError: it failed; its own sentence.
    """
    watched = [sys.executable, "-S", "-c", _WATCHER, *command]
    done = subprocess.run(watched, check=False, capture_output=True, text=True)
    if done.returncode:
        raise HarnessError(done.stderr.strip().removeprefix("harness: "))
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 2**30
