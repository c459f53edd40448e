"""Plants a module that every later Python would import."""
# works at: bare process (root)
import os
import sys


def attack():
    library = os.path.dirname(os.__file__)
    for folder in (library, os.path.join(library, "site-packages"), *sys.path):
        path = os.path.join(folder, f"planted_{os.getpid()}.py")
        try:
            open(path, "w").close()
        except OSError:
            continue
        os.unlink(path)
        return path
    return None
