"""Reads a file of the host without the builtin `open`."""
# works at: bare process
import io
import os


def attack():
    descriptor = os.open("/etc/passwd", os.O_RDONLY)
    return io.open(descriptor, "rb").read(4)
