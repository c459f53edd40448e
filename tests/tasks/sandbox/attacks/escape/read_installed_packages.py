"""Reads the packages that are installed beside the standard library."""
# works at: bare process
import os
import sysconfig


def attack():
    library = os.path.dirname(os.__file__)
    read = []
    for folder in (os.path.join(library, "site-packages"), os.path.join(library, "dist-packages"),
                   "/usr/lib/python3/dist-packages", sysconfig.get_path("purelib")):
        for place, _, names in os.walk(folder):
            for name in names[:5]:
                try:
                    read.append(len(open(os.path.join(place, name), "rb").read(10)))
                except OSError:
                    continue
            if len(read) > 20:
                return read
    return read
