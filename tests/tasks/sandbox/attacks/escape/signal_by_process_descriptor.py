"""Signals the parent through a descriptor."""
# works at: bare process
import os
import signal


def attack():
    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)
    return True
