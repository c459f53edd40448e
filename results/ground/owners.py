"""Which process something belongs to: told apart across machines, containers, restarts and re-used process numbers."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

import pydantic

from results.ground.digest import text_sha256


class Owner(pydantic.BaseModel):
    """One process.

    Attributes:
        host: name of its machine, for people.
        boot: digest of the machine's boot and of the namespace that its process numbers are counted in: two containers
            of one name, or one machine before and after a restart, differ.
        pid: its number there.
        started: when it started, in the system's own unit: a later process of that number differs.
    """

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)

    host: str
    boot: str
    pid: int
    started: int

    def text(self) -> str:
        """A part of a file's name that `parse` reads; dots separate."""
        host = "".join(c if c.isalnum() or c == "-" else "_" for c in self.host)[:40]
        return f"{host}.{self.boot}.{self.pid}.{self.started}"

    def gone(self) -> bool:
        """Whether the process is known to have ended; False where that cannot be known from here."""
        here = boot()
        return self.boot == here and _started(self.pid) != self.started

    def said(self) -> str:
        """The process in words."""
        return f"process {self.pid} on {self.host}"


def myself() -> Owner:
    """This process."""
    pid = os.getpid()
    return Owner(host=socket.gethostname(), boot=boot(), pid=pid, started=_started(pid) or 0)


def parse(text: str) -> Owner | None:
    """Inverse of `Owner.text`; None for anything else."""
    parts = text.split(".")
    if len(parts) != 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
        return None
    return Owner(host=parts[0], boot=parts[1], pid=int(parts[2]), started=int(parts[3]))


@functools.cache
def boot() -> str:
    """Eight hexadecimal digits for this boot of this machine and this namespace of process numbers."""
    try:
        space = os.readlink("/proc/self/ns/pid")
        return text_sha256(Path("/proc/sys/kernel/random/boot_id").read_text() + space)[:8]
    except OSError:
        import psutil

        return text_sha256(f"{socket.gethostname()} {psutil.boot_time():.0f}")[:8]


def _started(pid: int) -> int | None:
    """When a process of this machine started (Linux: clock ticks after the boot, proc_pid_stat(5) field 22); None if
    there is no such process."""
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
