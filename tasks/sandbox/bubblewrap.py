"""Level `bubblewrap`: Linux namespaces with an empty root, and a seccomp filter."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from tasks.sandbox import seccomp
from tasks.sandbox.interpreter import GUEST_PARENT, INSIDE_GUEST, Entry, Interpreter, Role, guest_command, interpreter
from tasks.sandbox.level import Command, Level
from tasks.sandbox.model import Limits
from tasks.sandbox.versions import installed, missing, written

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


def missing_bubblewrap() -> str | None:
    if sys.platform != "linux":
        return "bubblewrap needs Linux: run the harness there, or in a Linux virtual machine."
    if (reason := missing("bwrap")) is not None:
        return reason
    try:
        seccomp.program("run")
    except (ImportError, RuntimeError):
        return "the seccomp library is missing: `apt-get install libseccomp2` and `pip install pyseccomp`."
    return None


def root(at: str = "") -> list[str]:
    """Arguments that build a read-only root at `at`: interpreter, standard library, shared objects, guest package."""
    python = interpreter()
    return list(_root(python, at, python.listing()))


@lru_cache(maxsize=8)
def _root(python: Interpreter, at: str, listing: tuple[Entry, ...]) -> tuple[str, ...]:
    """Made once for the library's folders as they are, since every program that is judged asks for it twice."""
    folders = [folder for folder in python.path if folder.parent not in python.path]  # lib-dynload lies within another
    files = [str(python.executable), *python.objects]
    arguments = _open_folders(at, [*map(python.inside, folders), *map(python.inside, files)])
    for folder in folders:
        arguments += ["--ro-bind", str(folder), f"{at}{python.inside(folder)}"]
    for entry in listing:
        place = f"{at}{python.inside(entry.path)}"
        if python.belongs(entry) or entry.is_link:
            continue  # a stranger's link leads nowhere that is not in this root
        if entry.is_folder:
            arguments += ["--tmpfs", place, "--remount-ro", place]
        else:
            arguments += ["--ro-bind", "/dev/null", place]
    for file in files:
        arguments += ["--ro-bind", os.path.realpath(file), f"{at}{python.inside(file)}"]
    arguments += ["--perms", "0755", "--dir", f"{at}{INSIDE_GUEST}"]
    arguments += ["--ro-bind", str(GUEST_PARENT / "guest"), f"{at}{INSIDE_GUEST}/guest"]
    arguments += ["--perms", "0755", "--dir", f"{at}/dev"]
    for device in ("null", "zero", "urandom"):
        arguments += ["--dev-bind", f"/dev/{device}", f"{at}/dev/{device}"]
    return tuple(arguments)


def _open_folders(at: str, paths: list[str]) -> list[str]:
    """Folders on the way to these paths, which every user may enter: bubblewrap's own are for their owner."""
    parents = {parent for path in paths for parent in PurePosixPath(path).parents} - {PurePosixPath("/")}
    return [word for parent in sorted(parents) for word in ("--perms", "0755", "--dir", f"{at}{parent}")]


def inside_command(role: Role, config: str) -> list[str]:
    python = interpreter()
    return guest_command(python.inside(python.executable), INSIDE_GUEST, role, config)


def library_path() -> list[str]:
    """Lets shared objects be found although there is no linker cache."""
    return ["--setenv", "LD_LIBRARY_PATH", interpreter().library_path]


class BubblewrapLevel(Level):
    name = "bubblewrap"
    promise = "own namespaces (user, processes, network, files), read-only empty root, seccomp allow-list"
    refused = frozenset(
        {"memory", "environment", "files", "prefix", "write", "fork", "exec", "network", "signal", "other processes"}
    )

    def versions(self) -> dict[str, str]:
        return {"bubblewrap": written("bwrap"), "seccomp": seccomp.version()}

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
