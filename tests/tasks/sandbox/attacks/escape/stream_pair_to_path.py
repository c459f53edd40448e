"""Sends on a pair of streams with an address, which a filter that looks at the call alone lets through."""
# works at: bare process
import errno
import socket


def attack():
    ours, _ = socket.socketpair()
    try:
        return ours.sendto(b"out", "/run/no/such/socket")
    except OSError as error:
        return error.errno != errno.EPERM
