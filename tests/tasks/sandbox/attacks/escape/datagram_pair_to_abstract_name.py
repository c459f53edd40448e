"""The same, to a name that is no path."""
# works at: bare process
import errno
import socket


def attack():
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        return ours.sendto(b"out", "\0no-such-name")
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EACCES)
