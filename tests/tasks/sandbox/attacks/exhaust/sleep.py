"""Waits without using the processor."""
# expect: timeout
import time


def add(a, b):
    time.sleep(1000)
