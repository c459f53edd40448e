"""Level `bubblewrap`: Linux namespaces with an empty root, and a seccomp filter."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tasks.sandbox import seccomp
from tasks.sandbox.interpreter import (
    GUEST_PARENT,
    INSIDE_GUEST,
    INSIDE_PYTHON,
    Role,
    guest_command,
    interpreter,
)
from tasks.sandbox.level import Command, Level
from tasks.sandbox.model import Limits

NAMESPACES = (
    *(
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ),
    *("--new-session", "--die-with-parent", "--clearenv", "--chdir", "/"),
)


def installed(program: str) -> str | None:
    """Path of a program of the distribution, also where PATH lacks its folder."""
    return shutil.which(program) or shutil.which(program, path="/usr/bin:/usr/sbin:/usr/local/bin")


def missing_bubblewrap() -> str | None:
    if sys.platform != "linux":
        return "bubblewrap needs Linux: run the harness there, or in a Linux virtual machine."
    if installed("bwrap") is None:
        return "bubblewrap is not installed: `apt-get install bubblewrap` (or your distribution's package)."
    try:
        seccomp.program("run")
    except (ImportError, RuntimeError):
        return "the seccomp library is missing: `apt-get install libseccomp2` and `pip install pyseccomp`."
    return None


def root(at: str = "") -> list[str]:
    """Arguments that build a read-only root at `at`: system libraries, the interpreter and the guest package."""
    python = interpreter()
    arguments = ["--perms", "0755", "--dir", f"{at}/usr", "--ro-bind", "/usr/lib", f"{at}/usr/lib"]
    if Path("/usr/lib64").is_dir():
        arguments += ["--ro-bind", "/usr/lib64", f"{at}/usr/lib64"]
    for name in ("lib", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), f"{at}/{name}"]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), f"{at}/{name}"]
    if python.in_usr:
        arguments += ["--perms", "0755", "--dir", f"{at}/usr/bin"]
        arguments += ["--ro-bind", str(python.executable), f"{at}{python.executable}"]
        hidden = [f"{at}{place}" for place in python.packages]
    else:
        arguments += ["--ro-bind", str(python.prefix), f"{at}{INSIDE_PYTHON}"]
        hidden = [f"{at}{INSIDE_PYTHON}/{place.relative_to(python.prefix)}" for place in python.packages]
    for place in hidden:
        arguments += ["--tmpfs", place, "--remount-ro", place]
    arguments += ["--perms", "0755", "--dir", f"{at}{INSIDE_GUEST}"]
    arguments += ["--ro-bind", str(GUEST_PARENT / "guest"), f"{at}{INSIDE_GUEST}/guest"]
    arguments += ["--perms", "0755", "--dir", f"{at}/dev"]
    for device in ("null", "zero", "urandom"):
        arguments += ["--dev-bind", f"/dev/{device}", f"{at}/dev/{device}"]
    return arguments


def inside_command(role: Role, config: str) -> list[str]:
    return guest_command(interpreter().inside, INSIDE_GUEST, role, config)


def library_path() -> list[str]:
    """Lets a shared libpython be found although there is no linker cache."""
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return []
    return ["--setenv", "LD_LIBRARY_PATH", f"{INSIDE_PYTHON}/lib"]


class BubblewrapLevel(Level):
    name = "bubblewrap"
    promise = "own namespaces (user, processes, network, files), read-only empty root, seccomp allow-list"
    refused = frozenset(
        {"memory", "environment", "files", "write", "fork", "exec", "network", "signal", "other processes"}
    )

    def missing(self) -> str | None:
        return missing_bubblewrap()

    def config(self, role: Role, limits: Limits) -> dict[str, Any]:
        return super().config(role, limits) | {"filter": seccomp.program("run").hex()}

    def command(self, role: Role, limits: Limits) -> Command:
        argv = [installed("bwrap") or "bwrap", *NAMESPACES, "--uid", "65534", "--gid", "65534"]
        argv += ["--cap-drop", "ALL", "--disable-userns", "--hostname", "sandbox"]
        argv += [*library_path(), *root(), "--remount-ro", "/", "--seccomp", "{filter}", "--"]
        argv += inside_command(role, self.config_json(role, limits))
        return Command(argv, inputs={"{filter}": seccomp.program("launch")})
