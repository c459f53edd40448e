"""Asks for a socket of every family there is."""
# works at: bare process
import socket


def attack():
    made = []
    for family in range(1, 46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                made.append(socket.socket(family, kind).family)
            except OSError:
                continue
    return made
