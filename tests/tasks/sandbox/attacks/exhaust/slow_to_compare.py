"""Answers with numbers that all have one hash."""
# expect: failed timeout
MODULUS = 2**61 - 1


def add(a, b):
    return {number * MODULUS for number in range(1, 30_000)}
