"""Changes its root folder."""
# works at: process (root)
import os


def attack():
    os.chroot("/")
    return True
