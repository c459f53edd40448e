"""Asks for a pair of sequenced packets, and for raw and datagram ones with flags in the type."""
# works at: bare process
import socket


def attack():
    made = []
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK):
        try:
            made.append(socket.socketpair(socket.AF_UNIX, kind)[0].type)
        except OSError:
            continue
    return made
