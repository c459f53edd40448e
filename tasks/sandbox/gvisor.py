"""Level `gvisor`: a kernel of its own in user space (runsc), itself inside bubblewrap's namespaces."""

from __future__ import annotations

from typing import Any

from tasks.sandbox import seccomp
from tasks.sandbox.bubblewrap import (
    NAMESPACES,
    BubblewrapLevel,
    inside_command,
    library_path,
    missing_bubblewrap,
    root,
)
from tasks.sandbox.interpreter import Role
from tasks.sandbox.level import Command, Level
from tasks.sandbox.model import MEBIBYTE, Limits
from tasks.sandbox.versions import installed, missing, written

BOX = "/box"

# Within bubblewrap's user namespace only: what runsc needs to make one of its own.
CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_SYS_CHROOT")


class GvisorLevel(Level):
    name = "gvisor"
    promise = "a user-space kernel inside bubblewrap: candidates reach neither host files nor the host's kernel"
    refused = BubblewrapLevel.refused | {"host kernel"}

    def missing(self) -> str | None:
        if (reason := missing_bubblewrap()) is not None:
            return reason
        return missing("runsc")

    def versions(self) -> dict[str, str]:
        return {"runsc": written("runsc")} | self.judge().versions()

    def judge(self) -> Level:
        return BubblewrapLevel()

    def config(self, role: Role, limits: Limits) -> dict[str, Any]:
        # gVisor starts its command as root and keeps a writable /dev/shm in memory, beyond the memory limit.
        return super().config(role, limits) | {
            "filter": seccomp.program("run").hex(),
            "drop_root": True,
            "seal": ["/dev/shm"],
        }

    def command(self, role: Role, limits: Limits) -> Command:
        runsc = installed("runsc") or "runsc"
        argv = [installed("bwrap") or "bwrap", *NAMESPACES, *library_path(), "--uid", "0", "--gid", "0"]
        argv += ["--cap-drop", "ALL"]
        for capability in CAPABILITIES:
            argv += ["--cap-add", capability]
        argv += ["--perms", "0755", "--tmpfs", BOX, *root(BOX), "--dir", f"{BOX}/proc"]
        # gVisor puts a tmpfs of its own over an empty /tmp.
        argv += [
            "--perms",
            "0755",
            "--dir",
            f"{BOX}/tmp",
            "--dir",
            f"{BOX}/tmp/readonly",
            "--remount-ro",
            BOX,
        ]
        argv += ["--size", str(16 * MEBIBYTE), "--tmpfs", "/tmp", "--proc", "/proc"]
        argv += ["--perms", "0755", "--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null"]
        argv += ["--ro-bind", runsc, "/runsc", "--remount-ro", "/", "--"]
        argv += ["/runsc", "--rootless", "--network=none", "--ignore-cgroups", "--root=/tmp/runsc"]
        argv += ["do", "-quiet", "-root", BOX, "-cwd", "/", "-force-overlay=false"]
        return Command(argv + inside_command(role, self.config_json(role, limits)))
