"""Sends with sendmsg, whose address lies in memory that a filter cannot read."""
# works at: bare process
import errno
import socket


def attack():
    ours, _ = socket.socketpair()
    try:
        return ours.sendmsg([b"out"], [], 0, "/run/no/such/socket")
    except OSError as error:
        return error.errno != errno.EPERM
