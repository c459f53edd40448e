"""Locks a file of the host, so that others wait for it."""
# works at: bare process
import fcntl
import os
import sys


def attack():
    for path in (sys.executable, os.__file__, "/dev/null"):
        try:
            file = open(path, "rb")
        except OSError:
            continue
        for lock in (lambda: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB), lambda: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)):
            try:
                lock()
                return path
            except OSError:
                continue
    return None
