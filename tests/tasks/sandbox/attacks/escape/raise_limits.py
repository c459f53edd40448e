"""Lifts its own limits."""
import resource


def attack():
    resource.setrlimit(resource.RLIMIT_CPU, (100_000, 100_000))
    return True
