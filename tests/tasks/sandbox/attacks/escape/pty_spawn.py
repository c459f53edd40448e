"""Starts a program on a terminal of its own."""
# works at: bare process
import pty
import sys


def attack():
    return pty.spawn([sys.executable, "-c", ""]) == 0
