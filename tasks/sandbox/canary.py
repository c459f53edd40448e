"""A harmless program that tries what a sandbox must refuse; it is how a level proves that it works."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.sandbox.interpreter import interpreter
from tasks.sandbox.model import Program

CODE = """
import os

def memory():
    return len(bytearray(2**32))

def environment():
    own = {"HOME", "LC_CTYPE", "LD_LIBRARY_PATH", "PWD"}
    if not set(os.environ) - own:
        raise PermissionError

def files():
    open("/etc/passwd").close()

def prefix():
    for path in PATHS:
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError:
            continue
        return
    raise PermissionError

def write():
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev", "."):
        try:
            open(os.path.join(folder, "canary"), "w").close()
        except OSError:
            continue
        return
    raise PermissionError

def fork():
    if os.fork() == 0:
        os._exit(0)
    os.wait()

def network():
    import socket
    socket.socket().close()

def signal():
    os.kill(os.getppid(), 0)

def other_processes():
    if sum(name.isdigit() for name in os.listdir("/proc")) < 2:
        raise PermissionError

def host_kernel():
    if os.uname().version == "#1 SMP Sun Jan 10 15:06:54 PST 2016":  # gVisor's own
        raise PermissionError

def exec():
    try:
        os.execv("/no/such/program", ["program"])
    except FileNotFoundError:
        return

def allowed(names):
    found = []
    for name in names:
        try:
            globals()[name.replace(" ", "_")]()
        except (OSError, MemoryError, ImportError):
            continue
        found.append(name)
    return found
"""

TESTS = """
found = allowed({names!r})
assert not found, "it does not refuse " + ", ".join(found)
"""

REFUSED_NAMESPACES = ("namespace", "uid map", "Operation not permitted", "Permission denied")


def program(refused: Iterable[str]) -> Program:
    """Passes where everything in `refused` is refused.

    The canary in the interpreter's prefix is what lies there beside the interpreter: no file of another's is made.
    """
    python = interpreter()
    places = [place for path in python.outsiders() for place in (path, python.inside(path))]
    code = f"PATHS = {places!r}\n{CODE}"
    return Program("canary", code, TESTS.format(names=sorted(refused)), ("allowed",))


def reason(detail: str) -> str:
    """Why a level that is installed does not work, and what to do where that is known."""
    short = detail.rpartition("AssertionError ")[2]
    if not any(sign in detail for sign in REFUSED_NAMESPACES):
        return short
    return (
        f"{short}; allow unprivileged user namespaces (Ubuntu 24.04: "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, Docker: `--security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined`)."
    )
