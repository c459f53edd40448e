"""Is no program."""

def add(a, b)
    return a + b
