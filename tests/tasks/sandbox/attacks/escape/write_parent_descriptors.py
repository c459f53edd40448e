"""Writes into open files of the process that started it."""
# works at: bare process (root)
import os


def attack():
    folder = f"/proc/{os.getppid()}/fd"
    for name in os.listdir(folder):
        try:
            os.close(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_NONBLOCK))
            return name
        except OSError:
            continue
    return None
