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
        answered(command)  # files are read into memory once
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
        )


def answered(command: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        HarnessError: it failed; its own sentence.
    """
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise HarnessError(done.stderr.strip().removeprefix("harness: "))
