"""Makes a user namespace, the door to most of the kernel's attack surface."""
# works at: bare process (root)
import ctypes

CLONE_NEWUSER = 0x10000000


def attack():
    return ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0
