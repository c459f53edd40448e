"""Looks for files, folders and sockets that the harness left open."""
import os
import stat


def attack():
    found = []
    for descriptor in range(3, 4096):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            continue
        if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
            found.append(descriptor)
    return found
