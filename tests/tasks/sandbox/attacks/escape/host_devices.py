"""Opens devices of the host."""
import os


def attack():
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr", "fuse"}
    found = []
    for name in os.listdir("/dev"):
        if name in harmless or os.path.isdir(f"/dev/{name}"):
            continue
        try:
            os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
            found.append(name)
        except OSError:
            continue
    return found
