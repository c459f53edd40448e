"""Learns that a file of the host exists, and its size."""
# works at: bare process
# open at: landlock
import os


def attack():
    return os.stat("/etc/passwd").st_size
