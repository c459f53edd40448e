"""Lists folders that only the host has."""
# works at: bare process
import os


def attack():
    found = []
    for folder in ("/etc/apt", "/etc/init.d", "/etc/ssl", "/var/log", "/home", "/root"):
        try:
            found += os.listdir(folder)
        except OSError:
            continue
    return found
