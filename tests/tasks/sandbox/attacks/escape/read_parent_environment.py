"""Looks for tokens in the environments of other processes."""
# works at: bare process
import os


def attack():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if content := open(f"/proc/{name}/environ", "rb").read():
                    return len(content)
            except OSError:
                continue
    return None
