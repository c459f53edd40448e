"""Raises its priority, or leaves the processors it was given."""
# works at: bare process (root)
import os


def attack():
    done = []
    for action in (
        lambda: os.setpriority(os.PRIO_PROCESS, 0, -10),
        lambda: os.nice(-5),
        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    ):
        try:
            action()
            done.append(True)
        except OSError:
            continue
    return done
