"""Lets the judge's question wait."""
# expect: timeout
import sys
import time


def add(a, b):
    sys.modules["guest.worker"].json.loads = lambda _: time.sleep(1000)
    return 3
