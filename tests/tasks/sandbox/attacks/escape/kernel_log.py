"""Reads messages and secrets of the kernel."""
# works at: bare process (root)


def attack():
    for path in ("/dev/kmsg", "/proc/kcore", "/proc/kallsyms", "/sys/kernel/notes"):
        try:
            return open(path, "rb", buffering=0).read(1)
        except OSError:
            continue
    return None
