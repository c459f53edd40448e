"""Takes capabilities for itself."""
# works at: bare process (root)
import ctypes


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    return libc.capset(header, (ctypes.c_uint32 * 6)(1, 1, 0, 0, 0, 0)) == 0
