"""Watches folders of the host for changes."""
# works at: bare process
import ctypes
import fcntl
import os


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.inotify_init1(0) >= 0:
        return "inotify"
    try:
        fcntl.fcntl(os.open("/", os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_CREATE)
    except OSError:
        return None
    return "dnotify"
