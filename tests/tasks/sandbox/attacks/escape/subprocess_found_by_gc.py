"""Finds the original Popen through the garbage collector, as guards that overwrite names overlook."""
# works at: bare process
import gc
import subprocess
import sys

subprocess.__dict__.pop("Popen_", None)


def attack():
    for thing in gc.get_objects():
        if isinstance(thing, type) and thing.__name__ == "Popen":
            return thing([sys.executable, "-c", ""]).wait() == 0
    return None
