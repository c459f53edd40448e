"""Truncates through a descriptor that is open for reading only."""
import os


def attack():
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_size == 0:
                os.close(os.open(entry.path, os.O_RDONLY | os.O_TRUNC))
                return entry.path
    return None
