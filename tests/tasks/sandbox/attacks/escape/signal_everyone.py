"""Signals every process that it can reach."""
# works at: process (root)
import os


def attack():
    os.kill(-1, 0)
    return True
