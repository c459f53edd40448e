"""Changes its root folder."""
# works at: bare process (root)
import os


def attack():
    os.chroot("/")
    return True
