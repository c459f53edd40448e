"""Reads what lies in the interpreter's prefix beside the interpreter: tokens, scripts, settings."""
# works at: bare process
import os
import sys


def attack():
    found = []
    for prefix in {sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(sys.executable)), "/python"} - {"/usr", ""}:
        for folder in ("etc", "share", "bin", "include", "envs", "conda-meta", "pkgs"):
            for place, _, names in os.walk(os.path.join(prefix, folder)):
                for name in names:
                    path = os.path.join(place, name)
                    if os.path.realpath(path) == os.path.realpath(sys.executable):
                        continue
                    try:
                        with open(path, "rb") as file:
                            if file.read(1):
                                found.append(path)
                    except OSError:
                        continue
    return found
