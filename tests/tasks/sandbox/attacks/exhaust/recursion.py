"""Recurses without end."""
# expect: failed


def add(a, b):
    return add(a, b)
