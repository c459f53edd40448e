"""Answers with a line that is hard on parsers."""
import sys


def add(a, b):
    frame = sys._getframe()
    while "sink" not in frame.f_locals:
        frame = frame.f_back
    frame.f_locals["sink"].write(b'{"value":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}\n")
