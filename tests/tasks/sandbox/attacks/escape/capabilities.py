"""Looks whether any power of root is left, or can come back by starting a program."""
# works at: bare process (root)
import ctypes

VERSION = 0x20080522
PR_CAPBSET_READ = 23


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0 and any(sets):
        return list(sets)
    return [number for number in range(41) if libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1]
