"""Sends a line without end to every descriptor."""
# expect: failed timeout
import os


def add(a, b):
    while True:
        for descriptor in range(3, 16):
            try:
                os.write(descriptor, b"x" * 65536)
            except OSError:
                continue
