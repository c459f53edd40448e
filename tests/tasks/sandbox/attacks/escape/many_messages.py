"""Sends with sendmmsg, by number."""
# works at: bare process
import ctypes
import errno
import platform
import socket

NUMBER = {"x86_64": 307, "aarch64": 269}[platform.machine()]


def attack():
    ours, _ = socket.socketpair()
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(NUMBER, ours.fileno(), 0, 1, 0) != -1 or ctypes.get_errno() != errno.EPERM
