"""Control groups: found, divided where that is allowed, and set for each sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.sandbox import Limits, Outcome, Program, cgroup, evaluate_programs
from tasks.sandbox.cgroup import Delegated, divide, entering, own_group
from tasks.sandbox.levels import named

MOUNTS = (
    "25 20 0:22 / /sys rw - sysfs sysfs rw\n"
    "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
    "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def test_the_group_is_found_below_its_mount() -> None:
    assert own_group(MOUNTS, "0::/user.slice/run.scope\n") == Path("/sys/fs/cgroup/user.slice/run.scope")
    assert own_group(MOUNTS, "8:pids:/\n0::/\n") == Path("/sys/fs/cgroup")
    assert own_group(MOUNTS, "8:pids:/\n") is None
    assert own_group("", "0::/\n") is None
    shifted = MOUNTS.replace("0:26 / /sys", "0:26 /docker/1 /sys")
    assert own_group(shifted, "0::/docker/1/x\n") == Path("/sys/fs/cgroup/x")
    assert own_group(shifted, "0::/elsewhere\n") is None


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A group as the kernel shows one, with this process alone in it."""
    (tmp_path / "cgroup.type").write_text("domain\n")
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return tmp_path


def test_a_process_alone_in_its_group_makes_room(group: Path) -> None:
    assert divide(group) == Delegated(group, ("memory", "pids", "cpu"))
    assert (group / "harness/cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_a_group_that_is_shared_stays_as_it_is(group: Path) -> None:
    (group / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    assert divide(group) is None
    assert not (group / "harness").exists()


def test_what_is_handed_down_already_is_used(group: Path) -> None:
    (group / "cgroup.controllers").write_text("memory\n")
    (group / "cgroup.subtree_control").write_text("memory\n")
    assert divide(group) == Delegated(group, ("memory",))


def test_without_controllers_there_is_nothing_to_set(group: Path) -> None:
    (group / "cgroup.controllers").write_text("hugetlb\n")
    assert divide(group) is None


def test_each_sandbox_gets_its_limits_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, str]] = []

    def look(path: Path) -> None:
        seen.append({file.name: file.read_text().strip() for file in path.iterdir()})

    monkeypatch.setattr(cgroup, "_remove", look)
    monkeypatch.setattr(cgroup, "delegated", lambda: Delegated(tmp_path, ("memory", "pids", "cpu")))
    program = Program("add", "def add(a, b): return a + b", "assert add(1, 2) == 3", ("add",))
    verdict = evaluate_programs([program], level=named("process"), limits=Limits(memory=2**30))[0]
    assert verdict.outcome is Outcome.PASSED, verdict
    assert len(seen) == 2
    for files in seen:
        assert files == {
            "memory.max": str(2**30 + 2**29),
            "memory.oom.group": "1",
            "pids.max": "256",
            "cpu.max": "200000 100000",
            "cgroup.procs": "0",
        }


def test_who_cannot_enter_does_not_start(tmp_path: Path) -> None:
    ran = subprocess.run(entering(tmp_path / "missing", ["echo", "started"]), check=False, capture_output=True)
    assert ran.returncode != 0
    assert ran.stdout == b""


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_nothing_of_a_group_outlives_it() -> None:
    own = own_group(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    if own is None or not os.access(own, os.W_OK):
        pytest.skip("no group of version 2 may be divided here")
    with Delegated(own, ()).group(Limits()) as path:
        argv = entering(path, ["setsid", "sleep", "60"])
        with subprocess.Popen(argv) as process:
            end = time.monotonic() + 10
            while str(process.pid) not in (path / "cgroup.procs").read_text().split() and time.monotonic() < end:
                time.sleep(0.01)
            cgroup._remove(path)
            assert process.wait(10) == -9
    assert not path.exists()
