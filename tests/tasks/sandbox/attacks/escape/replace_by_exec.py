"""Becomes another program that goes on answering."""
# works at: bare process
import os
import sys

ANSWER = "import os; os.write({sink}, b'{{\"value\": true}}\\n')"


def attack():
    for descriptor in range(3, 64):
        try:
            os.set_inheritable(descriptor, True)
        except OSError:
            continue
    sink = sys.modules["guest.worker"].__dict__.get("sink") or find_sink()
    os.execv(sys.executable, [sys.executable, "-c", ANSWER.format(sink=sink)])


def find_sink():
    frame = sys._getframe()
    while frame:
        if "sink" in frame.f_locals:
            return frame.f_locals["sink"].fileno()
        frame = frame.f_back
    return None
