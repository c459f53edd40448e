"""Changes the rights of a file of the host (to what they are)."""
# works at: bare process (root)
import os


def attack():
    path = "/usr/lib/os-release"
    os.chmod(path, os.stat(path).st_mode & 0o7777)
    return path
