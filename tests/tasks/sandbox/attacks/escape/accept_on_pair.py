"""Binds and listens on one half of a pair."""
import socket


def attack():
    ours, _ = socket.socketpair()
    ours.bind("\0here")
    ours.listen()
    return True
