"""Takes over the pipe and answers every question with a value of each kind."""
import json
import sys


def add(a, b):
    frame = sys._getframe()
    while "sink" not in frame.f_locals:
        frame = frame.f_back
    source, sink = frame.f_locals["source"], frame.f_locals["sink"]
    values = [
        {"t": "ref", "v": 0, "type": "int"},
        {"t": "verdict", "v": "passed"},
        {"t": "tuple", "v": 3},
        {"t": "int", "v": "__import__('os')._exit(0)"},
        {"t": "type", "v": "Stop"},
        {"t": "dict", "v": [[{"t": "ref", "v": 1}, 1]]},
    ]
    for number in range(10_000):
        sink.write(json.dumps({"value": values[number % len(values)]}).encode() + b"\n")
        source.readline()
