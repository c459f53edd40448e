"""Changes how values of the standard library are taken apart."""
import sys

values = sys.modules.get("guest.values")
if values is not None:
    for key in list(values.KINDS):
        values.KINDS[key] = values.Kind(lambda cls, value: [], lambda cls, *parts: 3)
    values.kind_of = lambda cls: "builtins.range"


def add(a, b):
    return range(3)
