"""Leaves a private pair of datagram sockets by an address: any Unix socket of the host, by its path."""
# works at: bare process
import errno
import socket


def attack():
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        return ours.sendto(b"out", "/run/no/such/socket")
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EACCES)
