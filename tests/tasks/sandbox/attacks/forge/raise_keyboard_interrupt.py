"""Pretends that the user interrupted."""


def add(a, b):
    raise KeyboardInterrupt
