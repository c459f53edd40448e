"""Ignores every signal that can be ignored, and loops."""
# expect: timeout
import signal

for number in signal.valid_signals():
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        continue


def add(a, b):
    while True:
        pass
