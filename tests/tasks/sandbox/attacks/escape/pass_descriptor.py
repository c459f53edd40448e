"""Hands a descriptor over a socket pair."""
# works at: bare process
import os
import socket


def attack():
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [os.open("/dev/null", os.O_RDONLY)])
    return socket.recv_fds(theirs, 1, 1)[1]
