"""A fork bomb, cut off at 64 processes alive."""
# works at: bare process (root)
import os
import signal
import time


def attack():
    children = []
    try:
        for _ in range(64):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return len(children)
