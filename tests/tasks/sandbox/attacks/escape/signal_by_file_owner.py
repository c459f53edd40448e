"""Makes the kernel signal the parent when a pipe becomes readable."""
# works at: bare process
import fcntl
import os


def attack():
    end, _ = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getppid())
    return fcntl.fcntl(end, fcntl.F_GETOWN)
