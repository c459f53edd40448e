"""Fills every folder that it can write to, a file below the size limit at a time."""
# works at: bare process
import contextlib
import os


def attack():
    written, made = 0, []
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", "."):
        for number in range(16):
            path = os.path.join(folder, f"filling-{os.getpid()}-{number}")
            try:
                with open(path, "wb") as file:
                    made.append(path)
                    written += file.write(bytes(500_000))
            except OSError:
                break
    for path in made:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return written
