"""Starts a program through the C helper of subprocess."""
# works at: bare process
import subprocess
import sys


def attack():
    return subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
