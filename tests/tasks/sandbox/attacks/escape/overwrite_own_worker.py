"""Opens the sandbox's own program for writing."""
# works at: bare process (root)
import sys


def attack():
    path = sys.modules["guest.worker"].__file__
    open(path, "r+").close()
    return path
