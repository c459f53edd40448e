"""Runs a shell with functions restored by a reload."""
# works at: bare process
import importlib
import os


def attack():
    return importlib.reload(os).system("true") == 0
