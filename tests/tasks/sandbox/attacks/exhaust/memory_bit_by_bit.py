"""Fills the memory with small objects."""
# expect: memory


def add(a, b):
    kept = []
    while True:
        kept.append(bytearray(4_000_000))
