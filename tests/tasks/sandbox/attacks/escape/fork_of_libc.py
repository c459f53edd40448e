"""Forks from C."""
# works at: bare process
import ctypes
import os


def attack():
    libc = ctypes.CDLL(None)
    child = libc.fork()
    if child == 0:
        libc._exit(0)
    return child > 0 and os.waitpid(child, 0)[1] == 0
