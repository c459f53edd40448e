"""Prints as much as it can."""
# expect: timeout


def add(a, b):
    while True:
        print("x" * 100_000, flush=True)
