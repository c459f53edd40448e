"""A run as a Slurm job array: plain processes on one stage store and one run folder, which divide the work."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.executors.local import SHARED
from harness.planning.graph import check_workers
from results.ground.errors import HarnessError
from results.ground.files import make_folder, write_bytes

if TYPE_CHECKING:
    from harness.runs import Run

FOLDER = "slurm"
"""Folder of a run with the script and the log of every process."""
_REPLACES = {"gres": ["gres", "gpus", "gpus-per-node", "gpus-per-task"], "mem": ["mem", "mem-per-cpu", "mem-per-gpu"]}
"""Options of sbatch that say themselves what one of ours says."""
_SHORT = {"J": "job-name", "a": "array", "o": "output", "D": "chdir"}


def submit(run: Run, workers: int, options: str = "", *, dry_run: bool = False) -> str:
    """Write a run's plan and the script of its job array, and submit it where there is `sbatch`.

    Args:
        run: as it is to be computed.
        workers: processes of the array.
        options: of sbatch, as in a shell; what they say replaces ours.
        dry_run: submit nothing.

    Returns:
        What was done and what is left to do, in words.

    Raises:
        HarnessError: options or paths that a script cannot hold, no room, another process writes to the folder, or
            Slurm refuses the array.
    """
    text = script(run, workers, options)
    run.share()
    path = run.path.resolve() / FOLDER / "array.sh"
    make_folder(path.parent)
    write_bytes(path, text.encode())
    sbatch = None if dry_run else shutil.which("sbatch")
    table = f"once it is done, the table is there with: harness report {shlex.quote(str(run.path))}"
    if sbatch is None:
        why = "" if dry_run else "There is no sbatch here. "
        return f"{why}Submit the array of {workers:,} with: sbatch {shlex.quote(str(path))}; {table}"
    done = subprocess.run([sbatch, "--parsable", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise HarnessError(f"Slurm refuses {path}: {said.rstrip('.')}; mend it with --sbatch and submit it again.")
    return f"Submitted the array of {workers:,} as job {done.stdout.strip()}; {table}"


def script(run: Run, workers: int, options: str = "") -> str:
    """The job array's script.

    Raises:
        HarnessError: options or paths that it cannot hold, or a number of workers that there cannot be.
    """
    from harness.assets import cache_root

    folder, line = run.path.resolve(), _options(options)
    ours = {
        "job-name": f"harness-{run.path.name}",
        "array": f"0-{check_workers(workers) - 1}",
        "output": f"{folder / FOLDER}/".replace("%", "%%") + "%A_%a.log",
        "chdir": str(Path.cwd()),
        "mem": f"{_memory(run)}G",
    }
    if any(engine.plan.config.model.device != "cpu" for engine in run.engines):
        ours["gres"] = "gpu:1"
    said = {_SHORT.get(found, found) for found in re.findall(r"(?:^|\s)--?([A-Za-z][\w-]*)", " ".join(line))}
    kept = {name: value for name, value in ours.items() if not said & {name, *_REPLACES.get(name, ())}}
    command = [sys.executable, "-m", "harness", "run", "--into", str(folder), "--executor", SHARED]
    return _lines(
        ["#!/bin/bash"],
        [f"#SBATCH --{name}={_quoted(value)}" for name, value in kept.items()],
        [f"#SBATCH {shlex.join(line)}"] if line else [],
        ["set -eu"],
        [f"export HARNESS_STAGES={shlex.quote(run.stages.address)}"],
        [f"export HARNESS_CACHE={shlex.quote(str(cache_root().resolve()))}"],
        ["export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}"],
        [f"exec {shlex.join(command)}"],
    )


def _memory(run: Run) -> int:
    """GiB that a process needs: what `--plan` prints, rounded up, of the largest base model."""
    return math.ceil(max(one.facts.memory for one in run.engines) / 2**30)


def _options(text: str) -> list[str]:
    try:
        line = shlex.split(text)
    except ValueError as error:
        raise HarnessError(f"--sbatch takes options of sbatch, not {text!r:.80}: a quote is open.") from error
    if any(not one.isprintable() for one in line) or (line and not line[0].startswith("-")):
        raise HarnessError(f"--sbatch takes options of sbatch such as --partition=gpu, not {text!r:.80}.")
    return line


def _quoted(value: str) -> str:
    """A value as `#SBATCH` lines take it: they know no shell."""
    if not value.isprintable() or set(value) & set("\"'\\"):
        raise HarnessError(f"A Slurm script cannot hold {value!r:.120}: choose another folder.")
    return f'"{value}"' if re.search(r"[\s#]", value) else value


def _lines(*parts: Iterable[str]) -> str:
    return "".join(f"{line}\n" for part in parts for line in part)
