"""Lifts limits through a module imported anew."""
import importlib
import sys


def attack():
    sys.modules.pop("resource", None)
    resource = importlib.import_module("resource")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**40, 2**40))
    return True
