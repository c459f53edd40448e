"""Follows a link of its own making to a file of the host."""
# works at: bare process
import os
import tempfile


def attack():
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "."):
        try:
            link = os.path.join(tempfile.mkdtemp(dir=folder), "link")
            os.symlink("/etc/passwd", link)
            return open(link).read(4)
        except OSError:
            continue
    return None
