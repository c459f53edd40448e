"""Locks memory, asks for huge pages and for memory on every node."""
# works at: bare process
import ctypes


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    return [name for name in ("mlockall", "munlockall") if getattr(libc, name)(2) == 0]
