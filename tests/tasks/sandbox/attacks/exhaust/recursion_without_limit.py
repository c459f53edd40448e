"""Recurses without end and without Python's own limit."""
# expect: crashed memory timeout
import sys

sys.setrecursionlimit(10**9)


def add(a, b):
    return add(a, b)
