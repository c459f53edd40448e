"""Writes one file beyond the size limit."""
import os


def attack():
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev", "."):
        path = os.path.join(folder, f"large-{os.getpid()}")
        try:
            with open(path, "wb", buffering=0) as file:
                try:
                    for _ in range(64):
                        file.write(bytes(1_000_000))
                finally:
                    os.unlink(path)
            return "64 MB written"
        except OSError:
            continue
    return None
