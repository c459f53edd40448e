"""Asks for more memory than there is."""
# expect: memory


def add(a, b):
    return len(bytearray(2**34))
