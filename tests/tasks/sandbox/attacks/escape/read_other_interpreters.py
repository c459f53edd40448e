"""Looks for other interpreters and environments near its own."""
import os
import sys


def attack():
    near = {os.path.dirname(sys.base_prefix), "/opt", "/home", "/root", "/usr/local/lib", "/usr/lib/python3"}
    found = []
    for place in near - {"/"}:
        try:
            found += [name for name in os.listdir(place) if not sys.base_prefix.startswith(os.path.join(place, name))]
        except OSError:
            continue
    return found
