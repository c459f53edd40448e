"""Reads which system this is from files that a whole /usr/lib or /etc would show."""
# works at: bare process
def attack():
    for path in ("/usr/lib/os-release", "/etc/os-release", "/etc/ld.so.cache", "/etc/hostname", "/etc/machine-id"):
        try:
            return open(path, "rb").read(10)
        except OSError:
            continue
    return None
