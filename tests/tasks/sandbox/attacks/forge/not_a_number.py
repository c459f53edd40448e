"""Returns numbers that compare strangely."""


def add(a, b):
    return [float("nan"), float("inf"), -0.0][abs(hash(str(a))) % 3]
