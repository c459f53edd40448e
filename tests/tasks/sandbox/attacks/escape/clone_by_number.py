"""Starts a process by the numbers of clone, clone3, fork and vfork."""
# works at: bare process
import ctypes
import os
import platform

NUMBERS = {"x86_64": (56, 57), "aarch64": (220,)}[platform.machine()]
SIGCHLD = 17


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    for number in NUMBERS:
        child = libc.syscall(number, SIGCHLD, 0, 0, 0, 0)
        if child == 0:
            os._exit(0)
        if child > 0:
            return child
    return None
