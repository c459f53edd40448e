"""Attaches to the parent as a debugger would."""
import ctypes
import os

PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17


def attack():
    libc = ctypes.CDLL(None)
    if libc.ptrace(PTRACE_SEIZE, os.getppid(), None, None) != 0:
        return None
    libc.ptrace(PTRACE_DETACH, os.getppid(), None, None)
    return True
