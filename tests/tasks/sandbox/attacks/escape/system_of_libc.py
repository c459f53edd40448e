"""Runs a shell from C."""
# works at: bare process
import ctypes


def attack():
    return ctypes.CDLL(None).system(b"true") == 0
