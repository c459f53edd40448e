"""Makes pipes, devices, folders, links and sockets with names."""
# works at: bare process
import os


def attack():
    made = []
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/dev", ".", "/run", "/proc/self/cwd"):
        path = os.path.join(folder, f"node-{os.getpid()}")
        for make, undo in (
            (os.mkfifo, os.unlink),
            (os.mkdir, os.rmdir),
            (lambda p: os.symlink("/", p), os.unlink),
            (lambda p: os.link("/dev/null", p), os.unlink),
            (lambda p: os.mknod(p, 0o20666, os.makedev(1, 3)), os.unlink),
        ):
            try:
                make(path)
            except OSError:
                continue
            undo(path)
            made.append(path)
    return made
