"""Stays in one long C call, which Python-level timers cannot interrupt."""
# expect: timeout


def add(a, b):
    return sum(range(10**12))
