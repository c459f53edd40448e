"""Starts threads, cut off at 64 alive."""
# works at: bare process (root)
import threading


def attack():
    threading.stack_size(64 * 1024)
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(64)]
    try:
        for thread in threads:
            thread.start()
    finally:
        over.set()
    return len(threads)
