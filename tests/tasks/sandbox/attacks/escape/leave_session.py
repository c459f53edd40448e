"""Leaves its session and group, so that a signal to the group misses it."""
import os


def attack():
    for leave in (os.setsid, lambda: os.setpgid(0, 0)):
        try:
            leave()
            return True
        except OSError:
            continue
    return None
