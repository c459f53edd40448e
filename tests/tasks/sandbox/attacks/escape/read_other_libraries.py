"""Reads shared objects that no module of the standard library needs."""
# works at: bare process
import glob

OURS = ("libpython", "libc.", "libc-", "libm.", "libm-", "ld-linux", "ld-musl")


def attack():
    read = []
    for path in glob.glob("/usr/lib/*/*.a") + glob.glob("/usr/lib/*/*stdc++*") + glob.glob("/usr/lib/git-core/*") + [
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib/aarch64-linux-gnu/libstdc++.so.6", "/usr/lib/sysctl.d/50-pid-max.conf"
    ]:
        try:
            read.append(open(path, "rb").read(4))
        except OSError:
            continue
    return read
