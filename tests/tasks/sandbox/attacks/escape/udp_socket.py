"""Sends a datagram."""
# works at: bare process
import socket


def attack():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"x", ("127.0.0.1", 9))
