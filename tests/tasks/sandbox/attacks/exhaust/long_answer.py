"""Answers with a very long text."""
# expect: failed memory timeout


def add(a, b):
    return "x" * 100_000_000
