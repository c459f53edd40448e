"""Forks."""
# works at: bare process
import posix


def attack():
    if (child := posix.fork()) == 0:
        posix._exit(0)
    return posix.waitpid(child, 0)[1] == 0
