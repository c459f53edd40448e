"""Sets its user to root."""
# works at: bare process (root)
import os


def attack():
    os.setuid(0)
    return os.getuid() == 0
