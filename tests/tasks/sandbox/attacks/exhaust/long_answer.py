"""Answers with a very long text."""
# expect: failed memory


def add(a, b):
    return "x" * 100_000_000
