"""Signals every process that it can reach."""
# works at: bare process (root)
import os


def attack():
    os.kill(-1, 0)
    return True
