"""Answers with very many values."""
# expect: failed memory timeout


def add(a, b):
    return [[]] * 20_000_000
