"""Changes the dates, owner and attributes of files that it can see."""
# works at: bare process (root)
import os
import sys


def attack():
    before = os.stat(os.__file__)
    done = []
    for action in (
        lambda: os.utime(os.__file__, ns=(before.st_atime_ns, before.st_mtime_ns)),
        lambda: os.chown(sys.executable, -1, os.getgid()),
        lambda: os.setxattr(os.__file__, "user.mark", b"1"),
    ):
        try:
            action()
            done.append(True)
        except OSError:
            continue
    if True in done:
        try:
            os.removexattr(os.__file__, "user.mark")
        except OSError:
            pass
    return done
