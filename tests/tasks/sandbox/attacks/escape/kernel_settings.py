"""Opens settings of the kernel for writing."""
# works at: bare process (root)
import os


def attack():
    opened = []
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
                 "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/sys/vm/drop_caches"):
        try:
            os.close(os.open(path, os.O_WRONLY))
            opened.append(path)
        except OSError:
            continue
    return opened
