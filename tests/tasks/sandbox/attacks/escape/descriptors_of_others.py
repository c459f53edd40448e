"""Opens the descriptors and memory of every other process."""
# works at: bare process
import os


def attack():
    opened = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        for file in ("mem", "environ", "maps", "fd"):
            try:
                path = f"/proc/{name}/{file}"
                os.listdir(path) if file == "fd" else open(path, "rb").close()
                opened.append(path)
            except OSError:
                continue
    return opened
