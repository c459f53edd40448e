"""Mounts; on a folder that does not exist, so that being allowed shows and harms nothing."""
# works at: bare process (root)
import ctypes
import errno


def attack():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(b"none", b"/no-such-folder", b"tmpfs", 0, None)
    return ctypes.get_errno() == errno.ENOENT
