"""Opens a socket from C."""
# works at: bare process
import ctypes


def attack():
    return ctypes.CDLL(None).socket(2, 1, 0) >= 0
