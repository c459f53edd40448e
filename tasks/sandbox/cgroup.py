"""Limits of control groups (version 2) on memory, processes and processors, where the user may set them.

The other limits hold for one process each; these hold for everything that a program's sandbox consists of. They need
a group that is handed over to the user with nothing else in it: `systemd-run --user --scope -p Delegate=yes harness
run ...`, or a container with a group of its own. Elsewhere they are left out, which the record says.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.sandbox.model import MEBIBYTE, Limits

CONTROLLERS = ("memory", "pids", "cpu")

SANDBOX_MEMORY = 512 * MEBIBYTE
"""Room for what isolates: gVisor's kernel and file cache lie in user space."""

PROCESSES = 256
"""Threads of a sandbox; gVisor's own are some dozens, a candidate has one."""

PROCESSORS = 2

ENTER = 'echo 0 > "$0" && exec "$@"'

_numbers = itertools.count()


@dataclass(frozen=True)
class Delegated:
    """A group whose subgroups this process may make, and the controllers that it may set in them."""

    folder: Path
    controllers: tuple[str, ...]

    @contextmanager
    def group(self, limits: Limits) -> Iterator[Path]:
        """A subgroup with limits; everything in it is killed at the end.

        Raises:
            OSError: the group cannot be made.
        """
        path = self.folder / f"program-{os.getpid()}-{next(_numbers)}"
        path.mkdir()
        try:
            for name, value in self._settings(limits):
                (path / name).write_text(value)
            # No swap beyond the limit; the file is absent where the kernel has no swap accounting.
            if "memory" in self.controllers and (path / "memory.swap.max").exists():
                (path / "memory.swap.max").write_text("0")
            yield path
        finally:
            _remove(path)

    def _settings(self, limits: Limits) -> list[tuple[str, str]]:
        settings = {
            "memory": [("memory.max", str(limits.memory + SANDBOX_MEMORY)), ("memory.oom.group", "1")],
            "pids": [("pids.max", str(PROCESSES))],
            "cpu": [("cpu.max", f"{PROCESSORS * 100_000} 100000")],
        }
        return [setting for controller in self.controllers for setting in settings[controller]]


def entering(path: Path, argv: Sequence[str]) -> list[str]:
    """The command that enters a group before it becomes `argv`: nothing that it starts is ever outside."""
    return ["/bin/sh", "-c", ENTER, str(path / "cgroup.procs"), *argv]


@cache
def delegated() -> Delegated | None:
    """The group of this process, if it may be divided. Done once per process: it may move this process down a level."""
    with suppress(OSError):
        own = own_group(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
        return None if own is None else divide(own)
    return None


def control_groups() -> list[str]:
    """Controllers that limit sandboxes here, for the record."""
    groups = delegated()
    return [] if groups is None else list(groups.controllers)


def own_group(mounts: str, groups: str) -> Path | None:
    """Folder of this process's version-2 group, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`."""
    path = next((line.removeprefix("0::") for line in groups.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        if path is not None and after.split()[0] == "cgroup2" and Path(path).is_relative_to(root):
            return Path(point, Path(path).relative_to(root))
    return None


def divide(own: Path) -> Delegated | None:
    """Hand the controllers of a group down to its subgroups; None where that is not allowed.

    The kernel wants no process beside subgroups with controllers. So a process that is alone in its group moves into
    a subgroup of its own; one that is not alone leaves everything as it is.
    """
    controllers = tuple(name for name in CONTROLLERS if name in (own / "cgroup.controllers").read_text().split())
    if not controllers or not os.access(own, os.W_OK) or not os.access(own / "cgroup.subtree_control", os.W_OK):
        return None
    down = own / "cgroup.subtree_control"
    missing = [name for name in controllers if name not in down.read_text().split()]
    if not missing:
        return Delegated(own, controllers)
    if (own / "cgroup.type").exists():  # absent in the root group, which may hold processes
        if (own / "cgroup.procs").read_text().split() != [str(os.getpid())]:
            return None
        leaf = own / "harness"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
    try:
        down.write_text(" ".join(f"+{name}" for name in missing))
    except OSError:
        return None
    return Delegated(own, controllers)


def _remove(path: Path) -> None:
    """Kill what is left in a group and remove it; a group whose processes are still dying is tried again."""
    with suppress(OSError):
        (path / "cgroup.kill").write_text("1")
    for _ in range(50):
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return
