"""Starts a program with posix_spawn."""
# works at: bare process
import os
import sys


def attack():
    process = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    return os.waitpid(process, 0)[1] == 0
