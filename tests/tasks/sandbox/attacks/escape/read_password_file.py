"""Reads a file of the host."""
# works at: bare process


def attack():
    return open("/etc/passwd").read(4)
