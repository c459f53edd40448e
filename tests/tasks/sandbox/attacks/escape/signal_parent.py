"""Signals the process that started it (with the signal that does nothing)."""
# works at: bare process
import os


def attack():
    os.kill(os.getppid(), 0)
    return True
