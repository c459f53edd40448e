"""Signals its parent by the rarer calls."""
# works at: bare process
import ctypes
import os
import platform

NUMBERS = {"x86_64": (200, 234, 129, 297), "aarch64": (130, 131, 138, 240)}[platform.machine()]


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    tkill, tgkill, queue, thread_queue = NUMBERS
    return [
        number
        for number, arguments in ((tkill, (parent, 0)), (tgkill, (parent, parent, 0)))
        if libc.syscall(number, *arguments) == 0
    ]
