"""Reads how the harness was called."""
# works at: bare process
import os


def attack():
    return open(f"/proc/{os.getppid()}/cmdline", "rb").read(20)
