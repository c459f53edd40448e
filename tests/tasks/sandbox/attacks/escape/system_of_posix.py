"""Runs a shell through the module beneath `os`."""
# works at: bare process
import posix


def attack():
    return posix.system("true") == 0
