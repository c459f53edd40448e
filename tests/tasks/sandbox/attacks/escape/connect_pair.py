"""Connects one half of a pair to a path."""
# works at: bare process
import errno
import socket


def attack():
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ours.connect("/run/no/such/socket")
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EACCES)
    return True
