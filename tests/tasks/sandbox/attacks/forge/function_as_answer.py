"""Returns functions and modules."""
import sys


def add(a, b):
    return sys if a == 1 else add
