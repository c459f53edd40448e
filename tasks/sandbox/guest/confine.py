"""The last steps into confinement, taken by trusted code inside the sandbox before anything else runs."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import Any, BinaryIO

PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
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


def hush_errors() -> None:
    os.dup2(1, 2)


def confine(config: dict[str, Any]) -> None:
    """Apply limits, drop root, hide from other processes and install the seccomp filter, in this order.

    `config` keys: `memory`, `cpu`, `file` (bytes, seconds, bytes), `processes` (or None), `seal` (folders to close
    before root is dropped), `drop_root`, `private` (no other process of the user may inspect this one), `filter` (BPF
    program in hexadecimal, or None).

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
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if config["filter"] is not None:
        program = bytes.fromhex(config["filter"])
        instructions = ctypes.create_string_buffer(program, len(program))
        header = _FilterProgram(len(program) // 8, ctypes.addressof(instructions))
        _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header))


def _prctl(option: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
