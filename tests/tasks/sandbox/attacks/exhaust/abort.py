"""Aborts from C."""
# expect: crashed
import os


def add(a, b):
    os.abort()
